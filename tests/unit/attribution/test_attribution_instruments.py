"""What an operator is shown of reports and schedules."""

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from touchstone.attribution.v1 import schedule_service_pb2 as pb

from services.attribution.adapters.instruments import (
    ATTEMPTS,
    DURATION,
    KEPT,
    LAG,
    ReportAttempts,
    failing_schedules,
    kept_bytes,
    schedule_lag,
    show,
)
from services.attribution.adapters.schedules_sql import SqlSchedules, migrate_schedules
from services.attribution.ports import StoredSchedule
from shared.errors import unavailable
from shared.operations.task import Cancelled, Interrupted
from shared.state.database import Database
from shared.testing.fakes import FixedClock

NOW = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)
HOUR = dt.timedelta(hours=1)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = Database.open(f"sqlite:///{tmp_path / 'state.db'}")
    migrate_schedules(made)
    yield made
    made.close()


def keep(database: Database, name: str, due: dt.datetime, **fields: object) -> None:
    state = fields.pop("state", pb.ReportSchedule())
    assert isinstance(state, pb.ReportSchedule)
    made = StoredSchedule(
        project="demo",
        schedule_id=name,
        version=1,
        turn=1,
        create_time=NOW,
        update_time=NOW,
        next_time=due,
        paused=bool(fields.get("paused", False)),
        operation_id=str(fields.get("operation_id", "")),
        document=b"",
        state=state.SerializeToString(),
    )
    with database.begin() as connection:
        SqlSchedules(database).within(connection).insert(made)


def lag(database: Database) -> float:
    (found,) = schedule_lag(database, FixedClock(NOW))
    return float(found.value)


def test_the_lag_is_that_of_the_run_that_is_the_longest_due(database: Database) -> None:
    assert lag(database) == 0
    keep(database, "later", NOW + HOUR)
    keep(database, "paused", NOW - 9 * HOUR, paused=True)
    assert lag(database) == 0
    keep(database, "due", NOW - HOUR)
    assert lag(database) == 3_600
    # One that began is late until it has ended, though its schedule has moved on.
    running = pb.ReportSchedule()
    running.running.due_time.FromDatetime(NOW - 2 * HOUR)
    keep(database, "running", NOW + HOUR, operation_id="o", state=running)
    assert lag(database) == 7_200


def test_schedules_whose_last_run_failed_are_counted(database: Database) -> None:
    keep(database, "good", NOW)
    keep(database, "bad", NOW, state=pb.ReportSchedule(failures=3))
    keep(database, "given-up", NOW, state=pb.ReportSchedule(failures=3), paused=True)
    (found,) = failing_schedules(database)
    assert found.value == 1


def test_what_is_kept_is_told_by_its_kind(tmp_path: Path) -> None:
    (tmp_path / "events").mkdir()
    (tmp_path / "events" / "a.arrow").write_bytes(b"12345")
    folders = {"events": tmp_path / "events", "scores": tmp_path / "none"}
    told = {str((one.attributes or {})["kind"]): one.value for one in kept_bytes(folders)}
    assert told == {"events": 5, "scores": 0}


def test_attempts_are_counted_by_what_became_of_them() -> None:
    reader = InMemoryMetricReader()
    meter = MeterProvider([reader]).get_meter("test")
    attempts = ReportAttempts(meter)
    with attempts.counted():
        pass
    for error in (Cancelled(), Interrupted(), unavailable("NOT_YET_FRESH", "later"), ValueError()):
        with pytest.raises(type(error)), attempts.counted():
            raise error

    def away() -> list[None]:
        raise unavailable("STORAGE_UNAVAILABLE", "the store is away")

    show(meter, {LAG: away, KEPT: lambda: kept_bytes({})})  # type: ignore[dict-item]
    found = reader.get_metrics_data()
    assert found is not None
    data = {
        metric.name: {
            str((point.attributes or {})["outcome"]): getattr(point, "value", None)
            for point in metric.data.data_points
        }
        for scope in found.resource_metrics[0].scope_metrics
        for metric in scope.metrics
    }
    assert data[ATTEMPTS] == {"kept": 1, "cancelled": 1, "interrupted": 1, "failed": 2}
    assert data[DURATION].keys() == data[ATTEMPTS].keys()
    assert LAG not in data
