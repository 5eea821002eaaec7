"""What the attribution service measures; without an exporter it costs nothing."""

import datetime as dt
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa
from opentelemetry.metrics import CallbackOptions, Meter, Observation
from touchstone.attribution.v1 import schedule_service_pb2 as pb

from services.attribution.adapters.schedules_sql import schedules
from shared.clock import Clock
from shared.errors import DomainError
from shared.operations.store import SqlOperations
from shared.operations.task import Cancelled, Interrupted
from shared.state.database import Database
from shared.telemetry import METRICS

_LOG = logging.getLogger("touchstone.attribution")
ATTEMPTS, DURATION = "touchstone.attribution.reports", "touchstone.attribution.report.duration"
WAITING, KEPT = "touchstone.attribution.reports.waiting", "touchstone.attribution.kept"
LAG, FAILING = "touchstone.attribution.schedule.lag", "touchstone.attribution.schedules.failing"
STREAMS = "touchstone.attribution.score_streams"


class ReportAttempts:
    """Counts attempts at computing a report by their outcome, and says how long they took."""

    def __init__(self, meter: Meter) -> None:
        self._attempts = meter.create_counter(ATTEMPTS, *METRICS[ATTEMPTS])
        self._duration = meter.create_histogram(DURATION, *METRICS[DURATION])

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count what becomes of the block."""
        begun_s, outcome = time.monotonic(), "failed"
        try:
            yield
            outcome = "kept"
        except Cancelled:
            outcome = "cancelled"
            raise
        except Interrupted:
            outcome = "interrupted"
            raise
        finally:
            told = {"outcome": outcome}
            self._attempts.add(1, told)
            self._duration.record(time.monotonic() - begun_s, told)


def show(meter: Meter, gauges: Mapping[str, Callable[[], Iterable[Observation]]]) -> None:
    """Let the exporter ask for these; one whose store is away tells nothing."""
    for name, read in gauges.items():

        def observe(
            _options: CallbackOptions,
            read: Callable[[], Iterable[Observation]] = read,
            name: str = name,
        ) -> Iterable[Observation]:
            try:
                return list(read())
            except (DomainError, OSError) as error:
                _LOG.warning("%s cannot be measured: %s", name, type(error).__name__)
                return []

        meter.create_observable_gauge(name, [observe], *METRICS[name])


def waiting_reports(database: Database, kind: str) -> Iterator[Observation]:
    """Reports that are computed or wait for it."""
    with database.read() as connection:
        yield Observation(len(SqlOperations(connection).unfinished([kind])))


def schedule_lag(database: Database, clock: Clock) -> Iterator[Observation]:
    """How long the run has been due that is the longest due and has not ended, in seconds."""
    now = clock.now()
    late = (schedules.c.paused == sa.false()) & (schedules.c.next_time <= now)
    columns = (schedules.c.next_time, schedules.c.operation_id, schedules.c.state)
    query = sa.select(*columns).where((schedules.c.operation_id != "") | late)
    with database.read() as connection:
        due = [_due(*row) for row in connection.execute(query)]
    yield Observation(max([0.0, *((now - each).total_seconds() for each in due)]))


def failing_schedules(database: Database) -> Iterator[Observation]:
    """Schedules that are not paused and whose last run failed."""
    query = sa.select(schedules.c.state).where(schedules.c.paused == sa.false())
    with database.read() as connection:
        states = connection.execute(query).scalars()
        yield Observation(sum(pb.ReportSchedule.FromString(one).failures > 0 for one in states))


def kept_bytes(folders: Mapping[str, Path]) -> Iterator[Observation]:
    """How much is kept on the disk, by what it is."""
    for kind, folder in folders.items():
        yield Observation(sum(map(_size, folder.glob("*.*"))), {"kind": kind})


def _due(next_time: dt.datetime, operation_id: str, state: bytes) -> dt.datetime:
    if not operation_id:
        return next_time
    running = pb.ReportSchedule.FromString(state).running
    return running.due_time.ToDatetime(dt.UTC)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
