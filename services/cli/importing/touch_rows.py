"""Touches to try a channel grouping on: each that differs once, and how often it stands there."""

from __future__ import annotations

import json
from collections import Counter
from typing import TypeAlias

import typer
from touchstone.attribution.v1 import attribution_service_pb2 as pb

from services.cli.importing.sources import Source
from shared.errors import invalid

FIELDS = (
    "channel",
    "campaign_source",
    "medium",
    "campaign",
    "content",
    "term",
    "interaction",
    "source",
    "cost",
    "currency",
)
"""What a touch is told by, besides its properties."""
PROPERTY = "properties."
NO_CHANNEL = "(none)"
"""The channel of a touch that says none, as the contract wants one."""
_ALIASES = {
    f"utm_{name}": "campaign_source" if name == "source" else name
    for name in ("source", "medium", "campaign", "content", "term")
}
Cell: TypeAlias = str | int | float | bool
Touch: TypeAlias = tuple[tuple[str, Cell], ...]
"""The fields of a touch that are there."""


def read_touch(text: str) -> Touch:
    """The touch of FIELD=VALUE,FIELD=VALUE; a property is the JSON that it is, otherwise text."""
    found: list[tuple[str, Cell]] = []
    for pair in text.split(","):
        name, equals, value = (part.strip() for part in pair.partition("="))
        field = _field(name)
        if not equals or field is None:
            raise typer.BadParameter(
                f"--touch is {text!r}; allowed: FIELD=VALUE,FIELD=VALUE, each FIELD one of "
                f"{', '.join((*FIELDS, *_ALIASES))} or {PROPERTY}KEY"
            )
        found.append((field, _plain(value) if field.startswith(PROPERTY) else value))
    return tuple(found)


def read_touches(source: Source) -> Counter[Touch]:
    """How often each touch stands in the file. INVALID_ARGUMENT where no column is of a touch."""
    fields = [_field(name) for name in source.columns]
    if not any(fields):
        allowed = f"a column of {', '.join((*FIELDS, *_ALIASES))} or {PROPERTY}KEY"
        raise invalid("--touches", f"a file of {', '.join(source.columns)}", allowed)
    found: Counter[Touch] = Counter()
    for row in source.rows():
        if row.problem:
            raise invalid(f"line {row.line}", row.problem, "a row of as many cells as the header")
        cells = [
            (name, cell if isinstance(cell, int | float | str) else str(cell))
            for name, cell in zip(fields, row.cells, strict=True)
            if name is not None and cell not in (None, "")
        ]
        found[tuple(cells)] += 1
    return found


def sample(touch: Touch) -> pb.SampleTouch:
    """The touch as the service is asked about it."""
    made = pb.SampleTouch()
    for name, value in touch:
        if name.startswith(PROPERTY):
            made.properties[name.removeprefix(PROPERTY)] = value
        elif name == "source":
            made.source = str(value)
        elif name == "cost":
            made.touchpoint.cost = _cost(value)
        else:
            setattr(made.touchpoint, name, str(value))
    made.touchpoint.channel = made.touchpoint.channel or NO_CHANNEL
    return made


def _cost(value: Cell) -> float:
    try:
        return float(value)
    except ValueError as error:
        raise invalid("cost", str(value), "a number") from error


def _plain(text: str) -> Cell:
    try:
        found = json.loads(text)
    except ValueError:
        return text
    return found if isinstance(found, str | int | float) else text


def _field(name: str) -> str | None:
    known = _ALIASES.get(name, name)
    return known if known in FIELDS or known.startswith(PROPERTY) else None
