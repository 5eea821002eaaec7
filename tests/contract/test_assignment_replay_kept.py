"""Older versions that stay compiled: never beyond what was forgotten, and a share a project."""

import pytest
from touchstone_assignment.decision import Reason
from touchstone_assignment.subject import Subject

from services.assignment.adapters.sql import (
    SqlConfiguration,
    SqlConfigurationReader,
    migrate_assignment,
)
from services.assignment.application.create_experiment import CreateExperiment, create_experiment
from services.assignment.application.forced_variants import ForcedUnit, set_forced_variant
from services.assignment.application.replay import MOST_KEPT, MOST_OF_A_PROJECT, Replays
from services.assignment.application.snapshots import Snapshot, Snapshots
from services.assignment.domain.experiment import Variant
from shared.state.database import Database
from shared.testing.fakes import CountingIds, FixedClock

HALVES = (Variant("a", 5000), Variant("b", 5000))


class World:
    """One store; `snapshots` and `replays` belong to a process that others do not tell."""

    def __init__(self, database: Database) -> None:
        migrate_assignment(database)
        self.database = database
        self.clock = FixedClock()
        self.ids = CountingIds()
        reader = SqlConfigurationReader(database)
        self.snapshots = Snapshots(reader, self.clock)
        self.replays = Replays(reader, self.snapshots)

    def create(self, key: str, project: str = "demo") -> None:
        command = CreateExperiment(project, key, HALVES, traffic_slots=100)
        with self.database.begin() as connection:
            create_experiment(command, SqlConfiguration(connection), self.ids, self.clock.now())

    def reason(self, snapshot: Snapshot) -> Reason:
        return snapshot.evaluator.decide("button", Subject({"user": "u1"})).reason


@pytest.fixture
def world(database: Database) -> World:
    return World(database)


def test_a_forgotten_unit_is_forgotten_by_what_was_replayed_before(world: World) -> None:
    world.create("button")
    with world.database.begin() as connection:
        unit = ForcedUnit("demo", "button", "user", "u1")
        set_forced_variant(unit, "b", "", SqlConfiguration(connection), world.clock.now())
    world.snapshots.poll()
    assert world.reason(world.replays.at("demo", 2)) is Reason.FORCED
    with world.database.begin() as connection:
        configuration = SqlConfiguration(connection)
        configuration.next_revision("demo", world.clock.now())
        configuration.forget_unit("demo", "user", "u1")
    world.snapshots.poll()
    assert world.reason(world.replays.at("demo", 2)) is Reason.NOT_RUNNING


def test_a_project_pushes_out_its_own_before_those_of_others(world: World) -> None:
    world.create("button", "other")
    for number in range(MOST_KEPT + 1):
        world.create(f"e{number}")
    world.snapshots.poll()
    kept = world.replays.at("other", 1)
    made = [world.replays.at("demo", version) for version in range(1, MOST_KEPT + 1)]
    assert world.replays.at("other", 1) is kept
    last = MOST_KEPT - MOST_OF_A_PROJECT
    again = [world.replays.at("demo", version + 1) for version in range(last, MOST_KEPT)]
    assert all(map(lambda new, old: new is old, again, made[last:]))
    assert world.replays.at("demo", last) is not made[last - 1]


def test_an_older_version_takes_over_what_did_not_change(world: World) -> None:
    world.create("button")
    world.create("banner")
    world.snapshots.poll()
    current, older = world.snapshots.of("demo"), world.replays.at("demo", 1)
    assert set(older.evaluator.experiments) == {"button"}
    assert older.descriptions["button"] is current.descriptions["button"]
