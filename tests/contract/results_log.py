"""A lake that events are put into batch by batch, and what results see in it."""

import datetime as dt
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from services.results.adapters.lake import LakeMoments
from services.results.domain.daily import TimeSeries
from services.results.domain.measure import Measure
from services.results.domain.observation import Arm, ExperimentPlan, Observation, Question
from shared.identity.reader import IdentityReader
from shared.lake.rows import table_of
from shared.lake.snapshot import LakeEventTables
from shared.lake.writer import LakeWriter
from shared.testing.fakes import FixedClock
from shared.testing.policies import FixedPolicies

START = dt.datetime(2026, 3, 1, 23, 59, tzinfo=dt.UTC)
PLAN = ExperimentPlan("checkout", "user", (Arm("a", 5000), Arm("b", 5000)), "a", 7)

Row = dict[str, Any]


class Log:
    """A lake that events are put into one batch at a time."""

    def __init__(self, folder: Path) -> None:
        self.writer = LakeWriter(folder, "journal", FixedClock())
        self.policies = FixedPolicies()
        self.source = LakeMoments(LakeEventTables(folder), IdentityReader(self.policies))
        self.position = 0
        self.ids = itertools.count()

    def add(self, table: str, rows: Sequence[Row]) -> None:
        self.position += 1
        complete = [
            {"event_id": f"e{next(self.ids)}", "project": "demo", "position": self.position} | row
            for row in rows
        ]
        self.writer.append({table: table_of(table, complete)}, self.position)

    def ask(self, *measures: Measure, **more: Any) -> Observation:
        return self.source.observe(Question("demo", more.pop("plan", PLAN), measures, **more))

    def days(self, *measures: Measure, **more: Any) -> TimeSeries:
        return self.source.observe_by_day(Question("demo", PLAN, measures, **more))


def exposure(unit: str, variant: str, minutes: float = 0, **more: Any) -> Row:
    time = START + dt.timedelta(minutes=minutes)
    row = {"unit_id": unit, "variant": variant, "event_time": time, "experiment": "checkout"}
    return row | more


def conversion(
    unit: str, name: str, minutes: float, value: float | None = None, **more: Any
) -> Row:
    time = START + dt.timedelta(minutes=minutes)
    return {"unit_id": unit, "event_name": name, "event_time": time, "value": value} | more
