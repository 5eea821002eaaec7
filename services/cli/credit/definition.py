"""What a report is to say, from a file; and its names as the project has them."""

from __future__ import annotations

from pathlib import Path

import typer
from touchstone.attribution.v1.attribution_pb2 import JourneyDefinition
from touchstone.attribution.v1.report_service_pb2 import RunAttributionRequest

from services.cli.ascode.faults import FaultyError
from services.cli.ascode.kinds import GROUPINGS, KINDS, REPORT
from services.cli.ascode.resources import load
from services.cli.failures import USAGE
from services.cli.session import Session
from services.cli.terminal import say


def read_definition(path: Path | None) -> RunAttributionRequest:
    """The request of a file, without its project; an empty one without a file.

    Ends with 2 and every fault where the file is wrong.
    """
    asked = RunAttributionRequest()
    if path is None:
        return asked
    try:
        found = [each for each in load([path]) if each.kind.name == REPORT]
    except FaultyError as error:
        for line in error.lines():
            say(line)
        say(f"{len(error.faults)} faults")
        raise typer.Exit(USAGE) from error
    if len(found) != 1:
        raise typer.BadParameter(
            f"--definition is {str(path)!r}, which holds {len(found)} documents of kind {REPORT}; "
            "allowed: one"
        )
    asked.CopyFrom(found[0].message)
    asked.ClearField("parent")
    return asked


def name_grouping(session: Session, journeys: JourneyDefinition) -> None:
    """Give the channel grouping its whole name: options and files may have its id alone."""
    if journeys.channel_grouping.name:
        collection = KINDS[GROUPINGS[0]].collection
        whole = session.name(collection, journeys.channel_grouping.name)
        journeys.channel_grouping.name = whole
