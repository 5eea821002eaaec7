"""A configuration in a database of its own, as the use cases change it, step by step."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from touchstone_assignment.compile import compile_ruleset
from touchstone_assignment.compiled import Evaluator
from touchstone_assignment.conditions import IdSet

from services.assignment.adapters.sql import SqlConfiguration, SqlConfigurationReader
from services.assignment.application.create_experiment import CreateExperiment, create_experiment
from services.assignment.application.create_layer import CreateLayer, create_layer
from services.assignment.application.domains import CreateDomain, create_domain
from services.assignment.application.holdouts import CreateHoldout, create_holdout
from services.assignment.application.move_experiment import MoveExperiment, move_experiment
from services.assignment.domain.domain import Domain
from services.assignment.domain.experiment import Experiment, State, Variant
from services.assignment.domain.holdout import Holdout
from services.assignment.domain.layer import Layer
from services.assignment.ports import Configuration, ProjectConfig
from services.assignment.wire.ruleset import to_ruleset
from shared.state.database import Database
from shared.testing.fakes import CountingIds

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
COOL_DOWN = timedelta(days=7)
HALVES = (Variant("control", 5000), Variant("green", 5000))
T = TypeVar("T")


def no_lists(_digest: str) -> IdSet:
    raise AssertionError("no list is asked for")


@dataclass
class Stored:
    """Each call is one change in a transaction of its own, or a look at what is there."""

    database: Database
    now: datetime = START
    ids: CountingIds = field(default_factory=CountingIds)

    def change(self, work: Callable[[Configuration], T]) -> T:
        with self.database.begin() as connection:
            return work(SqlConfiguration(connection))

    def load(self, as_of: int | None = None) -> ProjectConfig:
        with SqlConfigurationReader(self.database).read() as configuration:
            return configuration.load("acme", as_of)

    def evaluator(self, as_of: int | None = None) -> Evaluator:
        """What decides by what is there."""
        return compile_ruleset(to_ruleset(self.load(as_of), "acme"), no_lists)

    def layer(self, layer_id: str, **fields: Any) -> Layer:
        command = CreateLayer("acme", layer_id, **fields)
        return self.change(lambda c: create_layer(command, c, self.ids, self.now))

    def domain(self, domain_id: str, layer: str, slots: int = 5000) -> Domain:
        command = CreateDomain("acme", domain_id, layer, slots)
        return self.change(lambda c: create_domain(command, c, self.now))

    def holdout(self, holdout_id: str, slots: int = 500, **fields: Any) -> Holdout:
        command = CreateHoldout("acme", holdout_id, slots, **fields)
        return self.change(lambda c: create_holdout(command, c, self.ids, self.now))

    def experiment(self, experiment_id: str, **fields: Any) -> Experiment:
        command = CreateExperiment("acme", experiment_id, **({"variants": HALVES} | fields))
        return self.change(lambda c: create_experiment(command, c, self.ids, self.now))

    def move(self, experiment_id: str, to: State) -> Experiment:
        command = MoveExperiment("acme", experiment_id, to)
        return self.change(lambda c: move_experiment(command, c, COOL_DOWN, self.now))

    def running(self, experiment_id: str, **fields: Any) -> Experiment:
        self.experiment(experiment_id, **fields)
        return self.move(experiment_id, State.RUNNING)
