"""touchstone attribution grouping test: which channel touches get, by which rule."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer
from touchstone.attribution.v1 import attribution_pb2
from touchstone.attribution.v1 import attribution_service_pb2 as pb
from touchstone.attribution.v1 import grouping_service_pb2 as kept_pb

from services.cli.ascode.kinds import GROUPINGS
from services.cli.commands.ascode import loaded
from services.cli.commands.attribution_grouping import COLLECTION
from services.cli.credit.options import read_grouping
from services.cli.figures import count
from services.cli.importing.sources import open_source
from services.cli.importing.touch_rows import Touch, read_touch, read_touches, sample
from services.cli.options import Data, Output
from services.cli.rendering import Cell, Column, Format, View, columns, write
from services.cli.session import Session, open_session
from services.cli.terminal import say

_AT_ONCE = 1000
"""Touches of one call."""
_NONE = "none"


@dataclass(frozen=True, slots=True)
class Tried:
    """A touch, how often it is there, and what became of it."""

    touch: Touch
    times: int
    found: pb.GroupedTouch

    @property
    def by_rule(self) -> bool:
        """Whether a rule named its channel."""
        return self.found.HasField("rule")


def trial(
    grouping: Annotated[
        str,
        typer.Argument(
            help="Id of the grouping, or ID@VERSION. [default: that of --rules]",
            metavar="GROUPING",
            show_default=False,
        ),
    ] = "",
    *,
    rules: Annotated[
        Path | None,
        typer.Option(
            help="A YAML file of a ChannelGrouping, in the place of the one that is kept, or "
            "tried as an edit of it.",
            show_default=False,
        ),
    ] = None,
    touches: Annotated[
        Path | None,
        typer.Option(
            help="CSV, Parquet or NDJSON, a row a touch: channel, campaign_source or utm_source, "
            "medium, campaign, content, term, interaction, source, cost, properties.KEY.",
            show_default=False,
        ),
    ] = None,
    touch: Annotated[
        list[str] | None,
        typer.Option(help="A touch: FIELD=VALUE,FIELD=VALUE. Repeat it.", show_default=False),
    ] = None,
    unmatched: Annotated[
        bool, typer.Option("--unmatched", help="Show only touches that no rule names.")
    ] = False,
    data: Data = None,
    output: Output = Format.TABLE,
) -> None:
    """Say which channel touches get, and by which rule; of an edit also what it changes.

    Example: touchstone attribution grouping test media --touch channel=Display,medium=cpc
    """
    wanted: Counter[Touch] = Counter(read_touch(text) for text in touch or ())
    if touches:
        wanted += read_touches(open_source(touches))
    if not wanted:
        raise typer.BadParameter("no touch is named; allowed: --touch, or --touches with a file")
    edit, named = _edit(rules)
    if not (grouping or rules):
        raise typer.BadParameter("no grouping is named; allowed: GROUPING, or --rules with a file")
    with open_session(data) as session:
        asked = _asked(session, grouping or named, edit, may_be_new=not grouping)
        tried = list(_tried(session, asked, wanted))
        known = edit or _kept(session, asked.name, asked.version)
    shown = [each for each in tried if not (unmatched and each.by_rule)]
    write(_view(shown, edited=bool(edit and asked.name)), output)
    _tell(tried, known.rules)


def _edit(rules: Path | None) -> tuple[attribution_pb2.ChannelGrouping | None, str]:
    """The grouping of the file, and its id."""
    if rules is None:
        return None, ""
    found = [each for each in loaded([rules]) if each.kind.name in GROUPINGS]
    if len(found) != 1:
        raise typer.BadParameter(
            f"--rules is {str(rules)!r}, which holds {len(found)} documents of kind "
            f"{GROUPINGS[0]}; allowed: one"
        )
    return found[0].message, found[0].resource_id


def _asked(
    session: Session,
    text: str,
    edit: attribution_pb2.ChannelGrouping | None,
    *,
    may_be_new: bool,
) -> attribution_pb2.ChannelGrouping:
    """The rules to try, with the grouping that they are an edit of if the project keeps it."""
    asked = read_grouping(text, "GROUPING")
    asked.name = session.name(COLLECTION, asked.name)
    if edit is None:
        return asked
    if not may_be_new or _kept(session, asked.name, 0, may_be_new=True).name:
        asked.rules.extend(edit.rules)
        asked.otherwise = edit.otherwise
        return asked
    return attribution_pb2.ChannelGrouping(rules=edit.rules, otherwise=edit.otherwise)


def _kept(
    session: Session, name: str, version: int, *, may_be_new: bool = False
) -> attribution_pb2.ChannelGrouping:
    import grpc

    request = kept_pb.GetChannelGroupingRequest(name=name, version=version)
    try:
        return session.groupings.GetChannelGrouping(request).channel_grouping
    except grpc.RpcError as error:
        call: Any = error
        if may_be_new and call.code() is grpc.StatusCode.NOT_FOUND:
            return attribution_pb2.ChannelGrouping()
        raise


def _tried(
    session: Session, asked: attribution_pb2.ChannelGrouping, wanted: Mapping[Touch, int]
) -> Iterator[Tried]:
    """What becomes of each touch, the most frequent first."""
    rest = iter(sorted(wanted.items(), key=lambda each: -each[1]))
    while part := list(islice(rest, _AT_ONCE)):
        reply = session.attribution.TestChannelGrouping(
            pb.TestChannelGroupingRequest(
                grouping=asked, touches=[sample(touch) for touch, _ in part]
            )
        )
        for (touch, times), found in zip(part, reply.touches, strict=True):
            yield Tried(touch, times, found)


def _view(tried: Sequence[Tried], *, edited: bool) -> View:
    fields = list(dict.fromkeys(name for each in tried for name, _ in each.touch))
    shown = (
        Column("touches", right=True),
        *columns(*("sent_channel" if name == "channel" else name for name in fields)),
        *columns("channel", "rule"),
        *(columns("kept_channel", "kept_rule", "changed") if edited else ()),
    )
    table: list[tuple[Cell, ...]] = []
    for each in tried:
        told = dict(each.touch)
        cells: list[Cell] = [each.times, *(told.get(name) for name in fields)]
        cells += [each.found.channel, _rule(each.found, "rule")]
        if edited:
            cells += [each.found.kept_channel, _rule(each.found, "kept_rule"), each.found.changed]
        table.append(tuple(cells))
    return View({"touches": [_document(each, edited=edited) for each in tried]}, shown, table)


def _document(each: Tried, *, edited: bool) -> dict[str, object]:
    found = each.found
    document: dict[str, object] = {
        "touch": dict(each.touch),
        "times": each.times,
        "channel": found.channel,
        "rule": found.rule if each.by_rule else None,
    }
    if edited:
        document |= {
            "kept_channel": found.kept_channel,
            "kept_rule": found.kept_rule if found.HasField("kept_rule") else None,
            "changed": found.changed,
        }
    return document


def _rule(found: pb.GroupedTouch, field: Any) -> Cell:
    return getattr(found, field) if found.HasField(field) else _NONE


def _tell(tried: Sequence[Tried], rules: Iterable[attribution_pb2.ChannelRule]) -> None:
    """Says on standard error how many touches rules named, and which rules named none."""
    whole = sum(each.times for each in tried)
    by_rule = sum(each.times for each in tried if each.by_rule)
    say(f"{count(by_rule)} of {count(whole)} touches are named by a rule")
    if changed := sum(each.times for each in tried if each.found.changed):
        say(f"{count(changed)} of them get another channel by the edit")
    used = {each.found.rule for each in tried if each.by_rule}
    idle = [f"{n} ({rule.channel})" for n, rule in enumerate(rules) if n not in used]
    if idle:
        say(f"rules that none of them fulfils first: {', '.join(idle)}")
