"""What the use cases need from the outside."""

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, TypeVar

from google.protobuf.message import Message

from services.assignment.domain.experiment import Experiment, State
from services.assignment.domain.layer import Layer
from services.assignment.domain.revision import Revision
from shared.mutations import Mutation

M = TypeVar("M", bound=Message)


@dataclass(frozen=True, slots=True)
class ProjectConfig:
    """Everything of one project at one configuration version, by id."""

    config_version: int
    experiments: Mapping[str, Experiment]
    layers: Mapping[str, Layer]


@dataclass(frozen=True, slots=True)
class ExperimentCursor:
    """The last experiment of a page: the next one starts below it."""

    create_time: datetime
    experiment_id: str


class ExperimentStore(Protocol):
    """The experiments of all projects, inside one transaction.

    Ids are compared exactly. What a project does not have is absent, whatever others have.
    """

    def get(self, project: str, experiment_id: str) -> Experiment | None:
        """The experiment as it is now, or None."""
        ...

    def insert(self, experiment: Experiment) -> None:
        """Keep a new experiment; ALREADY_EXISTS when the id is taken, in any state."""
        ...

    def replace(self, old: Experiment, new: Experiment) -> None:
        """Put `new` in the place of `old`; ABORTED when what is stored is not `old` any more."""
        ...

    def page(
        self,
        project: str,
        states: Collection[State],
        below: ExperimentCursor | None,
        limit: int,
    ) -> Sequence[Experiment]:
        """At most `limit` experiments in one of the states, newest first, ties from z to a."""
        ...


class LayerStore(Protocol):
    """The layers of all projects with their ledgers, inside one transaction."""

    def get(self, project: str, layer_id: str) -> Layer | None:
        """The layer as it is now, or None."""
        ...

    def insert(self, layer: Layer) -> None:
        """Keep a new layer; ALREADY_EXISTS when the id is taken."""
        ...

    def replace(self, old: Layer, new: Layer) -> None:
        """Append and release ledger rows; ABORTED when what is stored is not `old` any more."""
        ...

    def page(self, project: str, after: str, limit: int) -> Sequence[Layer]:
        """At most `limit` layers with ids above `after`, ascending by code point."""
        ...


class Configuration(Protocol):
    """One transaction over everything that assignment keeps."""

    @property
    def experiments(self) -> ExperimentStore:
        """The experiments."""
        ...

    @property
    def layers(self) -> LayerStore:
        """The layers."""
        ...

    def next_revision(self, project: str, now: datetime) -> Revision:
        """The next configuration version; a second writer of the project waits for this one."""
        ...

    def versions(self) -> Mapping[str, int]:
        """The configuration version of every project that ever had one."""
        ...

    def load(self, project: str, as_of: int | None = None) -> ProjectConfig:
        """The project as it is now, or as it was at a version; version 0 is empty.

        Its layers hold the ledger rows that were held then, and not those released before.
        """
        ...


class ConfigurationReader(Protocol):
    """Opens read transactions."""

    def read(self) -> AbstractContextManager[Configuration]:
        """A transaction that sees one moment; UNAVAILABLE when the store is away."""
        ...


class ConfigurationWriter(Protocol):
    """Runs changes for the caller of the current RPC."""

    def write(self, mutation: Mutation, work: Callable[[Configuration], M]) -> M:
        """Do `work` in one transaction with its audit entry, all or nothing.

        A repeated request id is answered with the first response; `validate_only` undoes the work.
        """
        ...
