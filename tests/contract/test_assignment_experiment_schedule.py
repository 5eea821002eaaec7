"""Schedules are kept in their time, once, whoever looks, and made up for after an absence."""

import asyncio
import datetime as dt
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Any, TypeVar

import pytest
import sqlalchemy as sa
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from services.assignment.adapters.schedule_keeper import RETRY, ScheduleKeeper
from services.assignment.adapters.sql import SqlConfiguration, migrate_assignment
from services.assignment.adapters.tables import EXPERIMENTS
from services.assignment.application.create_experiment import CreateExperiment, create_experiment
from services.assignment.application.create_layer import CreateLayer, create_layer
from services.assignment.application.kill_experiment import kill_experiment, revive_experiment
from services.assignment.application.move_experiment import MoveExperiment, move_experiment
from services.assignment.domain.experiment import (
    Experiment,
    RampStage,
    Schedule,
    State,
    Variant,
)
from services.assignment.ports import Configuration, ConfigurationReader
from shared import errors
from shared.security.audit import SCHEDULE, AuditEntry, AuditKeys, SqlAuditLog
from shared.state.database import Database
from shared.state.platform import migrate_platform
from shared.testing.fakes import CountingIds, FixedClock
from shared.testing.postgres import PostgresServer
from tests.contract.schedule_process import START, backend_on

T = TypeVar("T")
AUDIT_KEY = "ab" * 32
HALVES = (Variant("a", 5000), Variant("b", 5000))


def hours(count: float) -> dt.datetime:
    return START + dt.timedelta(hours=count)


FULL = Schedule(hours(1), hours(9), (RampStage(hours(2), 2000), RampStage(hours(3), 5000)))


class Paused:
    """A reader of a store that can be away."""

    def __init__(self, reader: ConfigurationReader) -> None:
        self._reader = reader
        self.away = False
        self.reads = 0

    def read(self) -> AbstractContextManager[Configuration]:
        self.reads += 1
        if self.away:
            raise errors.unavailable("STORAGE_UNAVAILABLE", "it is away")
        return self._reader.read()


class World:
    """One database with a keeper on it, whose clock the test moves."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.clock = FixedClock(START)
        self.ids = CountingIds()
        self.keys = AuditKeys((bytes.fromhex(AUDIT_KEY),))
        backend = backend_on(database, self.keys, self.clock)
        self.store = Paused(backend.reader)
        self.metrics = InMemoryMetricReader()
        meter = MeterProvider(metric_readers=[self.metrics]).get_meter("test")
        self.keeper = ScheduleKeeper(replace(backend, reader=self.store), 0.01, meter)

    def write(self, work: Callable[[SqlConfiguration], T]) -> T:
        with self.database.begin() as connection:
            return work(SqlConfiguration(connection))

    def create(
        self, key: str = "button", schedule: Schedule = FULL, slots: int = 1000, layer: str = ""
    ) -> Experiment:
        command = CreateExperiment(
            "demo", key, HALVES, traffic_slots=slots, schedule=schedule, layer=layer
        )
        return self.write(lambda c: create_experiment(command, c, self.ids, self.clock.now()))

    def move(self, to: State, key: str = "button") -> None:
        command = MoveExperiment("demo", key, to)
        self.write(lambda c: move_experiment(command, c, dt.timedelta(0), self.clock.now()))

    def get(self, key: str = "button") -> Experiment:
        found = self.write(lambda c: c.experiments.get("demo", key))
        assert found is not None
        return found

    async def keep(self, at: float) -> int:
        """How many steps are taken at so many hours after START."""
        self.clock.advance(hours(at) - self.clock.now())
        return await self.keeper.keep_once()

    def audited(self) -> list[AuditEntry]:
        with self.database.read() as connection:
            return SqlAuditLog(connection, self.keys).entries("demo")

    def counted(self) -> dict[str, int]:
        data: Any = self.metrics.get_metrics_data()
        if data is None:
            return {}
        points = data.resource_metrics[0].scope_metrics[0].metrics[0].data.data_points
        return {point.attributes["outcome"]: point.value for point in points}


@pytest.fixture
def world(database: Database) -> World:
    migrate_platform(database)
    migrate_assignment(database)
    return World(database)


async def test_an_experiment_starts_ramps_and_stops_in_its_time(world: World) -> None:
    world.create()
    seen = []
    for at in (0.9, 1, 1.5, 2, 3, 8.9, 9, 20):
        taken = await world.keep(at)
        found = world.get()
        seen.append((at, taken, found.state.value, found.design.traffic_slots))
    assert seen == [
        (0.9, 0, "DRAFT", 1000),
        (1, 1, "RUNNING", 1000),
        (1.5, 0, "RUNNING", 1000),
        (2, 1, "RUNNING", 2000),
        (3, 1, "RUNNING", 5000),
        (8.9, 0, "RUNNING", 5000),
        (9, 1, "STOPPED", 5000),
        (20, 0, "STOPPED", 5000),
    ]
    assert world.get().start_time == hours(1)
    assert world.get().stop_time == hours(9)
    layer = world.write(lambda c: c.layers.get("demo", "button"))
    assert layer is not None
    assert sum(row.slots for row in layer.ledger) == 5000
    assert all(row.release_time == hours(9) for row in layer.ledger)


async def test_the_log_says_that_the_schedule_did_it(world: World) -> None:
    world.create()
    for at in (1, 2, 9):
        await world.keep(at)
    found = [(e.event.actor, e.event.method.rpartition("/")[2]) for e in world.audited()]
    assert found == [
        (SCHEDULE, "StartExperiment"),
        (SCHEDULE, "UpdateExperiment"),
        (SCHEDULE, "StopExperiment"),
    ]
    assert {e.event.resource for e in world.audited()} == {"projects/demo/experiments/button"}
    assert world.counted() == {"taken": 3}


async def test_what_was_missed_is_made_up_for(world: World) -> None:
    world.create()
    assert await world.keep(3.5) == 1
    assert await world.keep(3.5) == 1
    assert (world.get().state, world.get().design.traffic_slots) == (State.RUNNING, 5000)
    world.create("late", Schedule(hours(4), hours(5)))
    assert await world.keep(6) == 0
    assert world.get("late").state is State.DRAFT


async def test_a_draft_whose_stop_has_come_is_read_once_until_it_is_changed(world: World) -> None:
    for number in range(3):
        world.create(f"late{number}", Schedule(hours(1), hours(2)))
    await world.keep(3)
    before = world.store.reads
    for _ in range(10):
        assert await world.keep(4) == 0
    assert world.store.reads - before == 10, "one look each, and no experiment"
    found = world.get("late0")
    design = replace(found.design, schedule=Schedule(hours(1), hours(9)))
    newer = replace(found, design=design, config_version=found.config_version + 100)
    world.write(lambda c: c.experiments.replace(found, newer))
    assert await world.keep(4) == 1
    assert world.get("late0").state is State.RUNNING


async def test_what_somebody_stopped_on_purpose_waits_for_him(world: World) -> None:
    world.create()
    world.create("killed")
    await world.keep(1)
    world.move(State.PAUSED)
    world.write(lambda c: kill_experiment(c, "demo", "killed", "fire", START))
    assert await world.keep(3) == 0
    world.move(State.RUNNING)
    world.write(lambda c: revive_experiment(c, "demo", "killed", "", START))
    assert await world.keep(3.1) == 2
    assert {world.get(k).design.traffic_slots for k in ("button", "killed")} == {5000}


async def test_more_traffic_by_hand_overtakes_a_stage(world: World) -> None:
    world.create(slots=1000)
    await world.keep(1)
    found = world.get()
    grown = replace(found.design, traffic_slots=3000)
    newer = replace(found, design=grown, config_version=found.config_version + 100)
    world.write(lambda c: c.experiments.replace(found, newer))
    assert await world.keep(2) == 0
    assert await world.keep(3) == 1


async def test_a_stage_without_room_is_tried_again_and_holds_up_nobody(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "touchstone.assignment")
    world.write(lambda c: create_layer(CreateLayer("demo", "l", "user"), c, world.ids, START))
    world.create("holder", Schedule(), 9500, "l")
    world.move(State.RUNNING, "holder")
    world.create("blocked", FULL, 1000, "l")
    world.create("other", FULL)
    assert await world.keep(1) == 1
    assert (world.get("blocked").state, world.get("other").state) == (State.DRAFT, State.RUNNING)
    assert [record.__dict__["reason"] for record in caplog.records] == ["LAYER_FULL"]
    assert caplog.records[0].__dict__["experiment"] == "blocked"
    assert world.counted() == {"taken": 1, "refused": 1}
    before = world.audited()
    assert await world.keep(1) == 0
    assert world.counted()["refused"] == 1
    world.move(State.STOPPED, "holder")
    world.clock.advance(RETRY)
    assert await world.keeper.keep_once() == 1
    assert world.get("blocked").state is State.RUNNING
    assert len(world.audited()) == len(before) + 1


async def test_an_experiment_that_cannot_be_read_holds_up_nobody(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.create("broken", Schedule(hours(0.5)))
    world.create("newer", Schedule(hours(0.6)))
    world.create()
    with world.database.begin() as connection:
        for key, text in (("broken", "{"), ("newer", '{"format":99}')):
            connection.execute(
                sa.update(EXPERIMENTS)
                .where(EXPERIMENTS.c.experiment_id == key)
                .values(document=text)
            )
    assert await world.keep(1) == 1
    assert world.counted() == {"taken": 1, "refused": 1, "failed": 1}
    assert len(caplog.records) >= 2


async def test_a_store_that_is_away_is_waited_for(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "touchstone.assignment")
    world.create()
    world.store.away = True
    for at in (1, 2, 3.5):
        assert await world.keep(at) == 0
    messages = [record.message for record in caplog.records]
    assert messages == ["schedules cannot be kept now"]
    world.store.away = False
    assert await world.keep(3.5) == 1
    assert await world.keep(3.5) == 1
    assert world.get().design.traffic_slots == 5000
    assert "schedules are kept again" in [record.message for record in caplog.records]


async def test_a_change_between_the_look_and_the_step_wins(world: World) -> None:
    """The look and the step are two transactions; what comes between them is not overwritten."""
    world.create()
    world.create("other")
    inner, changed = world.store.read, False

    @contextmanager
    def read() -> Iterator[Configuration]:
        nonlocal changed
        with inner() as configuration:
            yield configuration
        if not changed:
            changed = True
            world.move(State.ARCHIVED)

    world.store.read = read  # type: ignore[method-assign]  # our own fake
    await world.keep(1)
    assert world.get().state is State.ARCHIVED
    assert world.get("other").state is State.RUNNING


async def test_the_background_task_keeps_them_and_ends(world: World) -> None:
    world.create()
    world.clock.advance(dt.timedelta(hours=1))
    await world.keeper.start()
    for _ in range(1000):
        if world.get().state is State.RUNNING:
            break
        await asyncio.sleep(0.01)
    await world.keeper.stop()
    assert world.get().state is State.RUNNING


def _process(url: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.contract.schedule_process", url, AUDIT_KEY]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_of_two_processes_one_takes_each_step(postgres: PostgresServer) -> None:
    with postgres.fresh_database("two_keepers") as url:
        database = Database.open(url)
        migrate_platform(database)
        migrate_assignment(database)
        world = World(database)
        for number in range(20):
            world.create(f"e{number}")
        processes = [_process(url), _process(url)]
        try:
            outputs = [process.stdout for process in processes if process.stdout]
            assert [output.readline() for output in outputs] == ["ready\n"] * 2
            taken = []
            for at in (1, 2, 3, 9):
                for process in processes:
                    assert process.stdin is not None
                    process.stdin.write(f"{at}\n")
                    process.stdin.flush()
                taken.append([int(output.readline()) for output in outputs])
        finally:
            for process in processes:
                process.kill()
                process.communicate()
        assert [sum(counts) for counts in taken] == [20] * 4
        entries = world.audited()
        assert len(entries) == 80
        assert len({(e.event.resource, e.event.body_digest) for e in entries}) == 80
        assert {world.get(f"e{n}").state for n in range(20)} == {State.STOPPED}
        database.close()
