"""What units did before, from real tables, and the salt that it leads to."""

import datetime as dt
import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from touchstone_assignment.bucketing import HashVersion, bucketer, unit_bytes

from services.assignment.adapters.lake_covariates import LakeHistory
from services.assignment.application.find_balanced_salt import (
    Covariates,
    History,
    arms_of,
    searched,
)
from services.assignment.domain.balance import differences
from services.assignment.domain.experiment import (
    AssignmentSource,
    Design,
    Experiment,
    State,
    Variant,
)
from shared.errors import DomainError
from shared.lake.rows import table_of
from shared.lake.snapshot import LakeEventTables
from shared.lake.writer import LakeWriter
from shared.testing.fakes import FixedClock

START = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)
END = START + dt.timedelta(days=7)
HISTORY = History("demo", "user", ("purchase", "visit"), START, END)


class Log:
    """A lake that events are put into."""

    def __init__(self, folder: Path) -> None:
        self._writer = LakeWriter(folder, "journal", FixedClock())
        self._ids = itertools.count()
        self.tables = LakeEventTables(folder)

    def add(self, table: str, *rows: dict[str, object]) -> None:
        position = next(self._ids) + 1
        base = {"project": "demo", "position": position, "event_time": START}
        complete = [base | {"event_id": f"e{position}-{n}"} | row for n, row in enumerate(rows)]
        self._writer.append({table: table_of(table, complete)}, position)


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path / "lake")


def bought(
    unit: str, value: float | None, name: str = "purchase", **more: object
) -> dict[str, object]:
    return {"unit_id": unit, "event_name": name, "value": value} | more


def test_sums_and_flags_are_those_of_the_events_within_the_time(log: Log) -> None:
    before, after = START - dt.timedelta(seconds=1), END
    log.add(
        "conversions",
        bought("ada", 10.0),
        bought("ada", 2.5),
        bought("ada", None, "visit"),
        bought("bob", 7.0, event_time=before),
        bought("bob", 7.0, event_time=after),
        bought("eve", 1.0, "refund"),
        bought("mallory", 99.0, project="other"),
        bought("phone", 99.0, unit_type="device"),
    )
    log.add("exposures", {"unit_id": "zoe", "experiment": "x", "variant": "a"})
    found = LakeHistory(log.tables).read(HISTORY)
    assert found.units == ["ada", "eve", "zoe"]
    assert found.names == ("purchase sum", "purchase units", "visit sum", "visit units")
    assert found.values.tolist() == [[12.5, 1, 0, 1], [0, 0, 0, 0], [0, 0, 0, 0]]


def test_a_log_without_events_has_no_units(log: Log) -> None:
    found = LakeHistory(log.tables).read(HISTORY)
    assert len(found.units) == 0
    assert found.values.shape == (0, 4)


def test_of_too_many_units_it_takes_the_same_part_every_time(log: Log) -> None:
    log.add("conversions", *(bought(f"u{n}", 1.0) for n in range(2_000)))
    first = LakeHistory(log.tables, most_units=500).read(HISTORY)
    assert 400 < len(first.units) < 600
    assert LakeHistory(log.tables, most_units=500).read(HISTORY).units == first.units


def draft() -> Experiment:
    design = Design(
        display_name="",
        hypothesis="",
        owner="",
        unit_type="user",
        layer="l",
        source=AssignmentSource.SLOTS,
        hash_version=HashVersion.FLAGD_V2,
        salt="split/first",
        traffic_slots=10_000,
        variants=(Variant("a", 2000), Variant("b", 3000), Variant("c", 5000)),
        control="a",
    )
    return Experiment("demo", "exp", design, State.DRAFT, 1, START, START)


def history(units: int) -> Covariates:
    numbers = np.random.default_rng(20261122)
    names = ("purchase sum", "purchase units")
    values = np.column_stack([numbers.lognormal(0, 2, units), numbers.integers(0, 2, units)])
    return Covariates([f"u{n}" for n in range(units)], names, values)


def test_the_arms_are_those_that_the_split_will_give() -> None:
    units = [f"u{n}" for n in range(500)]
    encoded = [unit_bytes(unit) for unit in units]
    arms = arms_of(encoded, draft().design.variants, HashVersion.FLAGD_V3, "split/s")
    bucket = bucketer(HashVersion.FLAGD_V3, "split/s", 10_000)
    wanted = [0 if bucket(u) < 2000 else 1 if bucket(u) < 5000 else 2 for u in encoded]
    assert arms.tolist() == wanted


def test_the_search_ends_with_the_most_balanced_of_the_salts() -> None:
    covariates = history(3_000)
    salts = [f"split/s{n}" for n in range(40)]
    steps = list(searched(draft(), covariates, salts))
    assert len(steps) == 40
    encoded = [unit_bytes(unit) for unit in covariates.units]
    largest = {}
    for salt in salts:
        arms = arms_of(encoded, draft().design.variants, HashVersion.FLAGD_V2, salt)
        largest[salt] = differences(covariates.values, arms, 3).max()
    best = steps[-1].best
    assert best is not None
    assert best.salt == min(largest, key=largest.__getitem__)
    assert best.median == pytest.approx(np.median(list(largest.values())))
    assert best.differences.max() < best.median


def test_too_few_units_are_an_error_that_says_so() -> None:
    with pytest.raises(DomainError, match=r"99 units of type 'user'.*at least 100") as caught:
        next(searched(replace(draft()), history(99), ["split/s"]))
    assert caught.value.reason == "TOO_LITTLE_DATA"
