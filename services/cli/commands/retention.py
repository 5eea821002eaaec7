"""touchstone retention: how long events are kept."""

from __future__ import annotations

from typing import Annotated

import typer
from touchstone.events.v1 import retention_service_pb2 as pb

from services.cli.options import Data, DryRun, Etag, Output
from services.cli.rendering import Cell, Column, Format, View, columns, write
from services.cli.session import Session, open_session

app = typer.Typer(no_args_is_help=True, help="Show and set how long events are kept.")

_KINDS = ("exposure", "conversion", "touchpoint", "identify", "evaluation", "rejected")
_SHOWN = (*columns("kind"), Column("days", right=True))
_MOST = 36_500

Days = Annotated[
    int | None,
    typer.Option(min=0, max=_MOST, help="Days; 0: for ever. Unchanged when it is not given."),
]


@app.command()
def show(data: Data = None, output: Output = Format.TABLE) -> None:
    """Show how many days each kind of event is kept."""
    with open_session(data) as session:
        found = _current(session)
    write(View(found, _SHOWN, _rows(found)), output)


@app.command(name="set")
def set_days(
    *,
    exposure: Days = None,
    conversion: Days = None,
    touchpoint: Days = None,
    identify: Days = None,
    evaluation: Days = None,
    rejected: Days = None,
    etag: Etag = "",
    dry_run: DryRun = False,
    data: Data = None,
    output: Output = Format.TABLE,
) -> None:
    """Set how many days events are kept. What is older is deleted for good, soon.

    Example: touchstone retention set --conversion 730 --touchpoint 400 --rejected 30
    """
    given = (exposure, conversion, touchpoint, identify, evaluation, rejected)
    chosen = {
        f"{kind}_days": days for kind, days in zip(_KINDS, given, strict=True) if days is not None
    }
    if not chosen:
        raise typer.BadParameter("give the days of at least one kind, such as --conversion 730")
    with open_session(data) as session:
        rules = _current(session)
        for field, days in chosen.items():
            setattr(rules, field, days)
        # Without an etag of the user's own it still may not undo what somebody else did meanwhile.
        rules.etag = etag or rules.etag
        request = pb.UpdateRetentionRequest(retention=rules, validate_only=dry_run)
        stored = session.retention.UpdateRetention(request).retention
    write(View(stored, _SHOWN, _rows(stored)), output)


def _current(session: Session) -> pb.Retention:
    request = pb.GetRetentionRequest(name=f"{session.parent}/retention")
    return session.retention.GetRetention(request).retention


def _rows(rules: pb.Retention) -> list[tuple[Cell, ...]]:
    days = {kind: getattr(rules, f"{kind}_days") for kind in _KINDS}
    return [(kind, count or "for ever") for kind, count in days.items()]
