"""touchstone flags: what clients of OpenFeature ask for."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import grpc
import typer
from touchstone.assignment.v1 import experiment_service_pb2 as pb

from services.cli.ascode.compare import changed_fields
from services.cli.ascode.kinds import KINDS
from services.cli.ascode.present import stated
from services.cli.failures import REJECTED, from_call
from services.cli.figures import enum_text
from services.cli.importing.flagd import Taken, read_document, take_flags
from services.cli.options import Data, DryRun, Output
from services.cli.rendering import Format, View, columns, write
from services.cli.session import Session, open_session
from services.cli.terminal import warn
from shared.errors import Code

app = typer.Typer(no_args_is_help=True, help="Feature flags of other systems.")

# What the service says of one flag; anything else ends the import.
_OF_THE_FLAG = frozenset((Code.INVALID_ARGUMENT, Code.ALREADY_EXISTS, Code.FAILED_PRECONDITION))
# What people may have added to the draft since, and no flag says.
_NOT_OF_FLAGS = frozenset(("display_name", "hypothesis", "owner", "metrics", "schedule"))


@app.callback()
def _group() -> None:
    # Keeps `import` a command of its own while it is the only one.
    pass


@app.command(name="import")
def import_flags(
    file: Annotated[Path, typer.Argument(help="A flagd document (JSON).", metavar="FILE")],
    *,
    dry_run: DryRun = False,
    data: Data = None,
    output: Output = Format.TABLE,
) -> None:
    """Make a draft of an experiment from each flag that splits at random.

    Units are randomised anew: a draft has a salt of its own. A flag that was taken before and is
    the same is left as it is. Ends with 3 when a flag cannot be taken, and says why for each.

    Example: touchstone flags import flags.json --dry-run
    """
    document = read_document(file)
    with open_session(data) as session:
        rows = [_taken(session, taken, dry_run) for taken in take_flags(document)]
    listed: list[dict[str, object]] = [dict(zip(_COLUMNS, row, strict=True)) for row in rows]
    write(View({"flags": listed}, columns(*_COLUMNS), rows), output)
    refused = sum(row[1] == "not taken" for row in rows)
    if refused:
        warn(f"{refused} of {len(rows)} flags were not taken")
        raise typer.Exit(REJECTED)


_COLUMNS = ("flag", "outcome", "unit_type", "value_type", "why")


def _taken(session: Session, taken: Taken, dry_run: bool) -> tuple[str, ...]:
    if taken.experiment is None:
        return (taken.key, "not taken", "", "", taken.why_not)
    request = pb.CreateExperimentRequest(
        parent=session.parent,
        experiment_id=taken.key,
        experiment=taken.experiment,
        validate_only=dry_run,
    )
    try:
        made: Any = session.experiments.CreateExperiment(request).experiment
    except grpc.RpcError as error:
        failure = from_call(error)
        if failure.code not in _OF_THE_FLAG:
            raise
        if failure.code is Code.ALREADY_EXISTS and _is_the_same(session, taken):
            return (taken.key, "as it was", "", "", "")
        return (taken.key, "not taken", "", "", failure.message)
    kind = enum_text(made, "value_type", "VALUE_TYPE_")
    return (taken.key, "could be taken" if dry_run else "draft", made.unit_type, kind, "")


def _is_the_same(session: Session, taken: Taken) -> bool:
    """Whether the experiment of this id says all that the flag does, in whatever state it is."""
    request = pb.GetExperimentRequest(name=session.name("experiments", taken.key))
    found = session.experiments.GetExperiment(request).experiment
    kind = KINDS["Experiment"]
    old = stated(kind, taken.key, found)
    new = stated(kind, taken.key, taken.experiment)
    return set(changed_fields(kind, old, new)) <= _NOT_OF_FLAGS
