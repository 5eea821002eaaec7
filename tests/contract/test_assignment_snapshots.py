"""Snapshots follow the store, are never replaced by older ones, and outlive it."""

import asyncio
import datetime as dt
import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TypeVar

import pytest
import sqlalchemy as sa
from touchstone_assignment.decision import Reason
from touchstone_assignment.subject import Subject

from services.assignment.adapters.disk_snapshots import DiskRulesets
from services.assignment.adapters.poller import SnapshotPoller
from services.assignment.adapters.sql import (
    SqlConfiguration,
    SqlConfigurationReader,
    migrate_assignment,
)
from services.assignment.adapters.tables import EXPERIMENTS
from services.assignment.application.create_experiment import CreateExperiment, create_experiment
from services.assignment.application.keep_rulesets import RulesetKeeper
from services.assignment.application.move_experiment import MoveExperiment, move_experiment
from services.assignment.application.snapshots import Snapshots
from services.assignment.domain.experiment import State, Variant
from services.assignment.ports import Configuration, ConfigurationReader
from shared.errors import Code, DomainError
from shared.state.database import Database
from shared.testing.fakes import CountingIds, FixedClock

T = TypeVar("T")
HALVES = (Variant("a", 5000), Variant("b", 5000))


class World:
    """One store, as two processes use it: this one writes, `snapshots` belongs to the other."""

    def __init__(self, database: Database) -> None:
        migrate_assignment(database)
        self.database = database
        self.clock = FixedClock()
        self.ids = CountingIds()
        self.reader = SqlConfigurationReader(database)
        self.snapshots = Snapshots(self.reader, self.clock)

    def create(self, key: str = "button", project: str = "demo", slots: int = 5000) -> None:
        command = CreateExperiment(project, key, HALVES, traffic_slots=slots)
        self.write(lambda c: create_experiment(command, c, self.ids, self.clock.now()))

    def move(self, to: State, key: str = "button", project: str = "demo") -> None:
        command = MoveExperiment(project, key, to)
        self.write(lambda c: move_experiment(command, c, dt.timedelta(0), self.clock.now()))

    def write(self, work: Callable[[SqlConfiguration], T]) -> T:
        with self.database.begin() as connection:
            return work(SqlConfiguration(connection))

    def spoil(self, project: str) -> None:
        with self.database.begin() as connection:
            connection.execute(
                sa.update(EXPERIMENTS)
                .where(EXPERIMENTS.c.project == project)
                .values(document='{"format": 1}')
            )

    def reasons(self, key: str = "button", project: str = "demo") -> set[Reason]:
        snapshot = self.snapshots.known(project)
        assert snapshot is not None
        return {
            snapshot.evaluator.decide(key, Subject({"user": f"u{n}"})).reason for n in range(50)
        }


@pytest.fixture
def world(database: Database) -> World:
    return World(database)


def test_a_poll_brings_in_what_another_process_changed(world: World) -> None:
    assert world.snapshots.poll() == 0
    world.create()
    world.create(project="other")
    assert world.snapshots.known("demo") is None
    assert world.snapshots.poll() == 2
    assert world.reasons() == {Reason.NOT_RUNNING}
    world.move(State.RUNNING)
    assert world.reasons() == {Reason.NOT_RUNNING}
    assert world.snapshots.poll() == 1
    assert world.reasons() == {Reason.SPLIT, Reason.NOT_IN_SLOTS}
    assert world.snapshots.poll() == 0


def test_a_project_without_configuration_is_empty_until_it_has_some(world: World) -> None:
    assert world.snapshots.of("demo").config_version == 0
    world.create()
    assert world.snapshots.poll() == 1
    assert world.reasons() == {Reason.NOT_RUNNING}


def test_what_did_not_change_is_not_compiled_again(world: World) -> None:
    world.create("one")
    world.create("two")
    first = world.snapshots.of("demo")
    world.move(State.RUNNING, "two")
    second = world.snapshots.refresh("demo")
    assert second.config_version > first.config_version
    assert second.evaluator.experiments["two"] is not first.evaluator.experiments["two"]
    world.write(lambda c: c.next_revision("demo", world.clock.now()))
    third = world.snapshots.refresh("demo")
    for key in ("one", "two"):
        assert third.evaluator.experiments[key] is second.evaluator.experiments[key]


def test_a_neighbours_growth_leaves_decisions_alone(world: World) -> None:
    world.create("one", slots=2000)
    world.create("two", slots=2000)
    world.move(State.RUNNING, "one")
    first = world.snapshots.refresh("demo")
    world.move(State.RUNNING, "two")
    second = world.snapshots.refresh("demo")
    for number in range(500):
        unit = Subject({"user": f"u{number}"})
        assert first.evaluator.decide("one", unit) == second.evaluator.decide("one", unit)


class PinnedReader:
    """A reader that answers from a transaction which was opened earlier, once it has one."""

    def __init__(self, reader: ConfigurationReader) -> None:
        self._reader = reader
        self.pinned: Configuration | None = None

    def read(self) -> AbstractContextManager[Configuration]:
        return nullcontext(self.pinned) if self.pinned else self._reader.read()


def test_a_slow_reader_never_puts_back_an_older_snapshot(world: World) -> None:
    world.create()
    reader = PinnedReader(world.reader)
    snapshots = Snapshots(reader, world.clock)
    with world.reader.read() as earlier:
        earlier.versions()
        world.move(State.RUNNING)
        newest = snapshots.refresh("demo")
        reader.pinned = earlier
        assert earlier.load("demo").config_version < newest.config_version
        assert snapshots.refresh("demo") is newest
    assert snapshots.known("demo") is newest


def test_a_store_that_is_away_leaves_the_last_known_good(world: World) -> None:
    world.create()
    world.move(State.RUNNING)
    world.snapshots.poll()
    before = world.reasons()
    world.database.close()
    world.clock.advance(dt.timedelta(seconds=90))
    with pytest.raises(DomainError) as caught:
        world.snapshots.poll()
    assert caught.value.code is Code.UNAVAILABLE
    assert world.reasons() == before
    assert world.snapshots.staleness_s() == 90
    with pytest.raises(DomainError):
        world.snapshots.of("never-seen")


def test_a_project_that_cannot_be_read_holds_up_no_other(world: World) -> None:
    world.create(project="bad")
    world.create(project="good")
    world.spoil("bad")
    with pytest.raises(DomainError, match="project 'bad' cannot be read"):
        world.snapshots.poll()
    assert world.reasons(project="good") == {Reason.NOT_RUNNING}
    assert world.snapshots.known("bad") is None


def test_a_document_of_a_newer_program_is_refused(world: World) -> None:
    world.create()
    with world.database.begin() as connection:
        connection.execute(sa.update(EXPERIMENTS).values(document='{"format": 99}'))
    with pytest.raises(DomainError) as caught:
        world.snapshots.poll()
    assert (caught.value.code, caught.value.reason) == (Code.FAILED_PRECONDITION, "NEWER_VERSION")


async def test_the_poller_says_once_that_the_store_is_away_and_then_stale(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="touchstone.assignment")
    poller = SnapshotPoller(world.snapshots, interval_s=60, stale_s=30)
    ready = [poller.ready]
    await poller.poll_once()
    ready.append(poller.ready)
    assert caplog.messages == []
    world.database.close()
    for _ in range(3):
        await poller.poll_once()
    world.clock.advance(dt.timedelta(seconds=31))
    for _ in range(2):
        await poller.poll_once()
    assert caplog.messages == [
        "configuration cannot be read; deciding by the last known one",
        "configuration is stale",
    ]
    assert [*ready, poller.ready] == [False, True, True]


async def test_a_project_that_cannot_be_read_at_the_start_is_decided_by_the_disk(
    world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for project in ("bad", "good", "worse"):
        world.create(project=project)
    world.snapshots.poll()
    RulesetKeeper(world.snapshots, DiskRulesets(tmp_path)).save()
    world.spoil("bad")
    world.spoil("worse")
    world.snapshots = Snapshots(world.reader, world.clock)
    keeper = RulesetKeeper(world.snapshots, DiskRulesets(tmp_path))
    poller = SnapshotPoller(world.snapshots, 60, 30, keeper)
    await poller.start()
    await poller.poll_once()
    world.database.close()
    for _ in range(2):
        await poller.poll_once()
    await poller.stop()
    for project in ("bad", "good", "worse"):
        assert world.reasons(project=project) == {Reason.NOT_RUNNING}
    told = [r.__dict__["detail"] for r in caplog.records if r.message.startswith("configuration c")]
    assert len(told) == 2, "the projects once, and the outage that came later"
    assert "'bad'" in told[0]
    assert "'worse'" in told[0]
    assert "closed" in told[1]


async def test_a_store_that_is_refused_is_told_again_and_again_and_is_not_ready(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    refusing = [True]

    def prepare() -> None:
        if refusing:
            raise DomainError(Code.FAILED_PRECONDITION, "WRONG_STATE", "another key")

    world.create()
    poller = SnapshotPoller(world.snapshots, interval_s=20, stale_s=30, prepare=prepare)
    for _ in range(7):
        await poller.poll_once()
        assert not poller.ready
        assert not poller.prepared
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert [record.__dict__["detail"] for record in errors] == ["another key"] * 3
    refusing.clear()
    assert await poller.poll_once()
    assert poller.ready
    assert poller.prepared


async def test_what_waits_for_the_store_is_tried_until_it_succeeds(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    poller = SnapshotPoller(world.snapshots, interval_s=0.01, stale_s=30)
    tries, done = [], asyncio.Event()

    async def work() -> None:
        tries.append(poller.prepared)
        if len(tries) < 3:
            raise RuntimeError("not yet")
        done.set()

    poller.when_prepared(work)
    await poller.start()
    await asyncio.wait_for(done.wait(), 60)
    await poller.stop()
    assert tries == [True] * 3
    assert sum(record.levelno == logging.ERROR for record in caplog.records) == 2
