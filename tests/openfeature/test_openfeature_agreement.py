"""Clients that nobody here wrote get what AssignmentService says, for unit after unit.

A share of the units is asked about; TOUCHSTONE_OPENFEATURE_UNITS says how many, and `make
openfeature` asks about 20,000.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from tests.openfeature.environments import KINDS, Client, Kind, each
from tests.openfeature.running import Running
from tests.openfeature.world import (
    DIALECTS,
    SERVER_ONLY,
    Assigned,
    Context,
    Flag,
    contexts,
    flags_of,
)

UNITS = int(os.environ.get("TOUCHSTONE_OPENFEATURE_UNITS", "0"))
IN_PROCESS_UNITS, WIRE_UNITS = UNITS or 2000, UNITS or 200
WORKERS = 8
NEEDS_NO_HASH = ("stopped", "killed")
CLIENTS = [each(kind) for kind in KINDS]
# OpenFeature's words for why a unit gets what it gets.
REASONS = {
    "SPLIT": "SPLIT",
    "FORCED": "TARGETING_MATCH",
    "STICKY": "TARGETING_MATCH",
    "KILLED": "DISABLED",
    "NOT_RUNNING": "DISABLED",
}
pytestmark = pytest.mark.timeout(3600)


def shares(kind: Kind) -> list[tuple[list[Flag], list[Context]]]:
    """Flags, and the units that they are asked for.

    An engine decides all units by its own hash. Asked by the wire, where the server decides, half
    of the units are about the flags of one hash and half about those of the other.
    """
    if kind.dialect:
        return [(flags_of(kind.dialect, server=False), contexts(IN_PROCESS_UNITS))]
    units = contexts(WIRE_UNITS)
    return [(flags_of(dialect), units[place::2]) for place, dialect in enumerate(DIALECTS)]


@pytest.mark.parametrize("kind", CLIENTS)
def test_client_agrees_with_assignment(running: Running, kind: Kind) -> None:
    compared: Counter[str] = Counter()
    with running.service() as service, running.client(kind) as client:
        for flags, units in shares(kind):
            expected = service.assign(flags, units)
            found = client.evaluate([flag.asked for flag in flags], units, WORKERS)
            wrong = list(disagreements(flags, units, expected, found))
            assert not wrong, f"{len(wrong)} of {len(units) * len(flags)}: {wrong[:5]}"
            compared.update(one.reason for row in expected for one in row)
    print(f"\n{kind.name}: {compared.total()} decisions agree: {dict(compared)}")
    assert {"SPLIT", "NOT_IN_SLOTS", "NOT_TARGETED", "HOLDOUT", "FORCED"} <= compared.keys()
    assert {"PREREQUISITE", "VARIANT_DROPPED", "KILLED", "NOT_RUNNING"} <= compared.keys()


def disagreements(
    flags: Sequence[Flag],
    units: Sequence[Context],
    expected: Sequence[Sequence[Assigned]],
    found: Sequence[Sequence[Sequence[Any]]],
) -> Any:
    """What a client said otherwise: the flag, the unit, what it should be and what it was."""
    for unit, wanted, got in zip(units, expected, found, strict=True):
        for flag, one, (value, error) in zip(flags, wanted, got, strict=True):
            if (
                error is not None
                or value != one.value
                or isinstance(value, bool) is not (flag.kind == "boolean")
            ):
                yield flag.key, unit["targetingKey"], one, value, error


@pytest.mark.parametrize("kind", CLIENTS)
def test_client_is_told_variant_and_reason(running: Running, kind: Kind) -> None:
    units = contexts(60)
    flags = flags_of(kind.dialect or DIALECTS[0], server=not kind.dialect)
    with running.service() as service, running.client(kind) as client:
        service.assign(flags, units)  # from here on what is kept is kept
        expected = service.assign(flags, units)
        for unit, row in zip(units[::4], expected[::4], strict=True):
            for flag, one in zip(flags, row, strict=True):
                found = detail(client, flag, unit)
                assert found["variant"] == (one.variant or "default"), (flag, unit, one)
                assert found["reason"] in allowed(kind, one), (flag, unit, one)


@pytest.mark.parametrize("kind", [each(kind) for kind in KINDS if kind.dialect])
def test_what_only_the_server_decides_is_in_no_document(running: Running, kind: Kind) -> None:
    other = next(dialect for dialect in DIALECTS if dialect != kind.dialect)
    own = [f"{name}{kind.dialect.removeprefix('flagd')}" for name in SERVER_ONLY]
    with running.client(kind) as client:
        # What does not run needs no hash.
        others = [flag.key for flag in flags_of(other) if flag.key[:-3] not in NEEDS_NO_HASH]
        for key in (*own, *others):
            found = client.details(key, "string", "?", targetingKey="user-1")
            assert (found["value"], found["error"]) == ("?", "FLAG_NOT_FOUND"), key


def detail(client: Client, flag: Flag, unit: Context) -> dict[str, Any]:
    return client.details(flag.key, flag.kind, flag.default, **unit)


def allowed(kind: Kind, one: Assigned) -> set[str]:
    """An engine knows of matches and defaults only."""
    if kind.dialect:
        return {"TARGETING_MATCH"} if one.variant else {"DEFAULT"}
    return {REASONS.get(one.reason, "DEFAULT")}
