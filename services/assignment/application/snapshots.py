"""The compiled configuration of every project, in memory and kept when the store is away."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from touchstone.assignment.v1.ruleset_pb2 import ExperimentRule, Ruleset
from touchstone_assignment.compile import compile_ruleset
from touchstone_assignment.compiled import Evaluator
from touchstone_assignment.conditions import IdSet

from services.assignment.ports import ConfigurationReader
from services.assignment.ruleset import to_ruleset
from shared.clock import Clock
from shared.errors import Code, DomainError

Describe = Callable[[ExperimentRule], bytes]
"""From an experiment to what every reply says of it, as replies send it."""
IdSets = Callable[[str], IdSet]
"""From the digest of an id list to its content; LookupError without it."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A project's rules at one configuration version, ready to decide and to be sent."""

    ruleset: Ruleset
    evaluator: Evaluator
    descriptions: Mapping[str, bytes]
    """What replies say of each experiment, by id."""

    @property
    def config_version(self) -> int:
        """The configuration version that every decision is taken at."""
        return self.evaluator.config_version


def undescribed(_rule: ExperimentRule) -> bytes:
    """For decisions that nobody is told of in a reply."""
    return b""


def no_id_sets(digest: str) -> IdSet:
    """For projects without id lists."""
    raise LookupError(f"the id list {digest!r} is not at hand")


def compile_snapshot(
    ruleset: Ruleset,
    previous: Snapshot | None = None,
    describe: Describe = undescribed,
    id_sets: IdSets = no_id_sets,
) -> Snapshot:
    """Compile and describe, taking over from `previous` what has not changed.

    Descriptions are made here, once: payloads are large, and a call must not pay for them again.
    """
    evaluator = compile_ruleset(ruleset, id_sets, previous.evaluator if previous else None)
    known = previous.evaluator.experiments if previous else {}
    told = previous.descriptions if previous else {}
    descriptions = {
        key: told[key] if known.get(key) is compiled else describe(compiled.rule)
        for key, compiled in evaluator.experiments.items()
    }
    return Snapshot(ruleset, evaluator, descriptions)


@dataclass(frozen=True, slots=True)
class _State:
    """What every project had when the store last answered."""

    snapshots: dict[str, Snapshot]
    confirmed: datetime | None


class Snapshots:
    """Answers from memory; `refresh` and `poll` bring in what changed.

    A snapshot is never replaced by an older one. When the store is away, `refresh` and `poll`
    raise and the last snapshots stay.
    """

    def __init__(
        self,
        reader: ConfigurationReader,
        clock: Clock,
        describe: Describe = undescribed,
        id_sets: IdSets = no_id_sets,
    ) -> None:
        self._reader = reader
        self._clock = clock
        self._describe = describe
        self._id_sets = id_sets
        self._lock = threading.Lock()
        self._state = _State({}, None)

    def known(self, project: str) -> Snapshot | None:
        """The snapshot of a project that was loaded before, without touching the store."""
        return self._state.snapshots.get(project)

    def of(self, project: str) -> Snapshot:
        """The snapshot of a project, loaded now when it was never asked for.

        UNAVAILABLE when it was never loaded and the store is away.
        """
        return self.known(project) or self.refresh(project)

    def refresh(self, project: str) -> Snapshot:
        """Load one project now."""
        with self._reader.read() as configuration:
            config = configuration.load(project)
        with self._lock:
            old = self._state.snapshots.get(project)
            if old is not None and old.config_version >= config.config_version:
                return old
            ruleset = to_ruleset(config, project)
            new = compile_snapshot(ruleset, old, self._describe, self._id_sets)
            self._state = _State({**self._state.snapshots, project: new}, self._state.confirmed)
            return new

    def poll(self) -> int:
        """Load every project whose version moved on; how many there were.

        A project that cannot be loaded does not hold up the others: its error is raised at the end.
        """
        asked = self._clock.now()
        with self._reader.read() as configuration:
            versions = configuration.versions()
        stale = [
            project
            for project, version in versions.items()
            if (known := self.known(project)) is None or known.config_version < version
        ]
        failures = [failure for project in stale if (failure := self._try_refresh(project))]
        if failures:
            raise failures[0]
        with self._lock:
            self._state = _State(self._state.snapshots, asked)
        return len(stale)

    def _try_refresh(self, project: str) -> DomainError | None:
        try:
            self.refresh(project)
        except DomainError as error:
            return error
        except (ValueError, LookupError) as error:
            # What is stored cannot be understood: name the project, keep what is known of it.
            return DomainError(
                Code.INTERNAL, "INTERNAL", f"project {project!r} cannot be read: {error!r}"
            )
        return None

    def staleness_s(self) -> float | None:
        """Seconds since the store last confirmed what is held; None before the first time."""
        confirmed = self._state.confirmed
        return None if confirmed is None else (self._clock.now() - confirmed).total_seconds()
