"""What the use cases need from the outside."""

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol, TypeVar

from google.protobuf.message import Message

from services.assignment.domain.attribute import Attribute
from services.assignment.domain.audience import Audience
from services.assignment.domain.domain import Domain
from services.assignment.domain.experiment import Experiment, State
from services.assignment.domain.forced import ForcedVariant
from services.assignment.domain.holdout import Holdout
from services.assignment.domain.layer import Layer
from services.assignment.domain.resource import Resource
from services.assignment.domain.revision import Revision
from services.assignment.domain.salt_checks import Salt
from services.assignment.domain.unit_type import UnitType
from shared.mutations import Mutation

M = TypeVar("M", bound=Message)
R = TypeVar("R", bound=Resource)


@dataclass(frozen=True, slots=True)
class ProjectConfig:
    """Everything of one project at one configuration version, by id."""

    config_version: int
    experiments: Mapping[str, Experiment]
    layers: Mapping[str, Layer]
    unit_types: Mapping[str, UnitType] = field(default_factory=dict)
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    domains: Mapping[str, Domain] = field(default_factory=dict)
    holdouts: Mapping[str, Holdout] = field(default_factory=dict)
    audiences: Mapping[str, Audience] = field(default_factory=dict)
    forced: Mapping[str, ForcedVariant] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Upload:
    """Names the ids that are on their way into an audience's list."""

    project: str
    audience_id: str
    upload_id: str


@dataclass(frozen=True, slots=True)
class Forgotten:
    """In how many experiments something was kept of a unit that is forgotten."""

    kept_variants: int
    forced_variants: int


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

    def all_now(self, project: str) -> Mapping[str, Experiment]:
        """Every experiment of the project as it is now, by id in ascending order."""
        ...

    def due(self, now: datetime) -> Sequence[tuple[str, str, int]]:
        """Project, id and version of each experiment whose schedule may have a step due, earliest
        first.
        """
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

    def all_now(self, project: str) -> Mapping[str, Layer]:
        """Every layer of the project as it is now with its whole ledger, by id."""
        ...


class ResourceStore(Protocol[R]):
    """The resources of one kind of all projects, inside one transaction.

    Ids are compared exactly. What a project does not have is absent, whatever others have.
    """

    def get(self, project: str, resource_id: str) -> R | None:
        """The resource as it is now, or None."""
        ...

    def insert(self, resource: R) -> None:
        """Keep a new resource; ALREADY_EXISTS when the id is taken now. A deleted id is free."""
        ...

    def replace(self, old: R, new: R) -> None:
        """Put `new` in the place of `old`; ABORTED when what is stored is not `old` any more."""
        ...

    def delete(self, old: R, at: Revision) -> None:
        """Take it away from this version on; ABORTED when what is stored is not `old` any more."""
        ...

    def page(self, project: str, after: str, limit: int) -> Sequence[R]:
        """At most `limit` resources with ids above `after`, ascending by code point."""
        ...

    def all_now(self, project: str) -> Mapping[str, R]:
        """Every resource of the project as it is now, by id in ascending order."""
        ...

    def all_as_of(self, project: str, config_version: int) -> Mapping[str, R]:
        """Every resource of the project as it was at a configuration version, by id.

        One that was deleted at that version or before is absent; one that was made again later is
        what it was then.
        """
        ...


class IdListStore(Protocol):
    """Contents of id lists by their digest, and parts of uploads, inside one transaction.

    Fingerprints are as `touchstone_assignment.conditions.id_set` writes them: ascending, each once.
    A content is kept for good: old configuration versions may be asked for at any time.
    """

    def put_part(self, upload: Upload, part: int, fingerprints: bytes, now: datetime) -> None:
        """Keep a part; one of the same number is replaced."""
        ...

    def parts(self, upload: Upload) -> Sequence[int]:
        """The numbers of the parts that are kept, ascending."""
        ...

    def part(self, upload: Upload, part: int) -> bytes:
        """The fingerprints of a part that is kept."""
        ...

    def waiting(self, project: str) -> int:
        """How many fingerprints the parts of all uploads of the project hold, one by one."""
        ...

    def forget(self, upload: Upload) -> None:
        """Delete the parts of an upload; one that is not there is no error."""
        ...

    def sweep(self, before: datetime) -> None:
        """Delete every part of any project that was kept before a time."""
        ...

    def put(self, project: str, digest: str, fingerprints: bytes) -> None:
        """Keep a content; one that is there already stays as it is."""
        ...


class Content(Protocol):
    """Bytes that several callers may share."""

    def __len__(self) -> int:
        """How many there are."""
        ...

    def __getitem__(self, part: slice, /) -> bytes:
        """Some of them."""
        ...


class IdLists(Protocol):
    """Reads contents of id lists, each in a transaction of its own."""

    def fingerprints(self, project: str, digest: str) -> Content:
        """The content as it is written; NOT_FOUND when the project never had it.

        UNAVAILABLE when the store is away.
        """
        ...

    def anywhere(self, digest: str) -> bytes | None:
        """The content, whoever put it there, or None. For deciding only: never show it to a caller.

        UNAVAILABLE when the store is away.
        """
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

    @property
    def unit_types(self) -> ResourceStore[UnitType]:
        """The unit types that projects declare."""
        ...

    @property
    def attributes(self) -> ResourceStore[Attribute]:
        """The attributes that projects declare."""
        ...

    @property
    def domains(self) -> ResourceStore[Domain]:
        """The domains, released ones among them."""
        ...

    @property
    def holdouts(self) -> ResourceStore[Holdout]:
        """The holdouts, ended ones among them."""
        ...

    @property
    def forced(self) -> ResourceStore[ForcedVariant]:
        """The forced variants of all experiments."""
        ...

    @property
    def audiences(self) -> ResourceStore[Audience]:
        """The audiences."""
        ...

    @property
    def id_lists(self) -> IdListStore:
        """The contents of audiences by list, and the uploads that become one."""
        ...

    def next_revision(self, project: str, now: datetime) -> Revision:
        """The next configuration version; a second writer of the project waits for this one."""
        ...

    def forget_unit(self, project: str, unit_type: str, unit_id: str) -> Forgotten:
        """Delete what is kept of a unit, and its forced variants in every version."""
        ...

    def versions(self) -> Mapping[str, int]:
        """The configuration version of every project that ever had one."""
        ...

    def salts(self, project: str) -> Sequence[Salt]:
        """The salt of every layer, experiment and holdout that there ever was, newest first.

        By creation; of those made at one moment in no certain order.
        """
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
