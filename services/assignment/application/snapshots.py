"""The compiled configuration of every project, in memory and kept when the store is away."""

import hashlib
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime

from touchstone.assignment.v1.ruleset_pb2 import ExperimentRule, Ruleset
from touchstone_assignment.compile import compile_ruleset
from touchstone_assignment.compiled import Evaluator
from touchstone_assignment.conditions import IdSet

from services.assignment.application.beside import PATIENCE_S, Beside
from services.assignment.ports import ConfigurationReader
from services.assignment.wire.ruleset import to_ruleset
from shared.clock import Clock
from shared.errors import Code, DomainError

Describe = Callable[[ExperimentRule], bytes]
"""From an experiment to what every reply says of it, as replies send it."""
IdSets = Callable[[str], IdSet]
"""From the digest of an id list to its content; LookupError without it."""
Listener = Callable[[str], None]
"""Is told the project of a snapshot that is new."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A project's rules at one configuration version, ready to decide and to be sent."""

    ruleset: Ruleset
    evaluator: Evaluator
    descriptions: Mapping[str, bytes]
    """What replies say of each experiment, by id."""
    body: bytes
    """The ruleset, serialized: the same bytes for the disk and for everybody who watches."""
    digest: str
    """The SHA-256 of `body` in hexadecimal digits."""
    reading: frozenset[str]
    """The experiments whose decisions read attributes."""

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
    body = ruleset.SerializeToString(deterministic=True)
    return Snapshot(
        ruleset=ruleset,
        evaluator=evaluator,
        descriptions=descriptions,
        body=body,
        digest=hashlib.sha256(body).hexdigest(),
        reading=_reading(ruleset),
    )


def _reading(ruleset: Ruleset) -> frozenset[str]:
    """The experiments that read attributes, themselves or through what they need of others."""
    found = {
        rule.experiment
        for rule in ruleset.experiments
        if rule.HasField("targeting") or rule.switchback.region_attribute
    }
    before = -1
    while before != len(found):
        before = len(found)
        found |= {
            rule.experiment
            for rule in ruleset.experiments
            if any(needed.experiment in found for needed in rule.prerequisites)
        }
    return frozenset(found)


@dataclass(frozen=True, slots=True)
class _State:
    """What every project had when the store last answered."""

    snapshots: dict[str, Snapshot]
    confirmed: datetime | None
    behind: Mapping[str, datetime | None]
    """Of projects that were not loaded when the others were: when they last were."""
    restored: frozenset[str]
    """Projects whose snapshots come from elsewhere than the store, which has the last word."""


class Snapshots:
    """Answers from memory; `refresh` and `poll` bring in what changed.

    A snapshot is never replaced by an older one of the store. When the store is away, or holds what
    cannot be understood, `refresh` and `poll` raise and the last snapshots stay.
    """

    def __init__(
        self,
        reader: ConfigurationReader,
        clock: Clock,
        describe: Describe = undescribed,
        id_sets: IdSets = no_id_sets,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._reader = reader
        self._refreshing = Beside(self.refresh, patience_s)
        self._clock = clock
        self._describe = describe
        self.id_sets = id_sets
        self._lock = threading.Lock()
        # Compiling may wait for id lists of the store, which must hold up no other project.
        self._compiling: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._state = _State({}, None, {}, frozenset())
        self._listeners: list[Listener] = []

    def listen(self, listener: Listener) -> None:
        """Have a function called, in any thread, with each project that was changed."""
        self._listeners.append(listener)

    def known(self, project: str) -> Snapshot | None:
        """The snapshot of a project that was loaded before, without touching the store."""
        return self._state.snapshots.get(project)

    def all(self) -> Mapping[str, Snapshot]:
        """Every snapshot by its project."""
        return self._state.snapshots

    def of(self, project: str) -> Snapshot:
        """The snapshot of a project, loaded now when it was never asked for.

        UNAVAILABLE when it was never loaded and the store is away.
        """
        return self.known(project) or self.refresh(project)

    def refresh(self, project: str) -> Snapshot:
        """Load one project now; INTERNAL when what is stored cannot be understood."""
        with _understood(project), self._reader.read() as configuration:
            config = configuration.load(project)
        with self._compiling[project], _understood(project):
            state = self._state
            old = state.snapshots.get(project)
            if (
                old is not None
                and project not in state.restored
                and old.config_version >= config.config_version
            ):
                return old
            new = compile_snapshot(to_ruleset(config, project), old, self._describe, self.id_sets)
            with self._lock:
                state = self._state
                self._state = replace(
                    state,
                    snapshots={**state.snapshots, project: new},
                    restored=state.restored - {project},
                )
        self._tell(project)
        return new

    def restore(self, ruleset: Ruleset, confirmed: datetime) -> None:
        """Take a project as it was, until the store says how it is; nothing when it is known.

        INTERNAL when the ruleset cannot decide.
        """
        project = ruleset.project
        with self._compiling[project], _understood(project):
            if project in self._state.snapshots:
                return
            new = compile_snapshot(ruleset, None, self._describe, self.id_sets)
            with self._lock:
                state = self._state
                self._state = replace(
                    state,
                    snapshots={**state.snapshots, project: new},
                    behind={**state.behind, project: confirmed},
                    restored=state.restored | {project},
                )
        self._tell(project)

    def poll(self) -> int:
        """Load every project whose version moved on; how many there were.

        A project that cannot be loaded, or hangs, does not hold up the others: one error that names
        each of those is raised at the end.
        """
        asked = self._clock.now()
        with self._reader.read() as configuration:
            versions = configuration.versions()
        stale = {
            project
            for project, version in versions.items()
            if (known := self.known(project)) is None or known.config_version < version
        }
        stale |= self._state.restored
        failures = self._refreshing.each(stale)
        with self._lock:
            behind = {project: self.confirmed(project) for project in failures}
            self._state = replace(self._state, confirmed=asked, behind=behind)
        if failures:
            raise _of_all(failures)
        return len(stale)

    def confirmed(self, project: str) -> datetime | None:
        """When the project's configuration was last confirmed to be the newest."""
        state = self._state
        return state.behind.get(project, state.confirmed)

    def age_s(self, project: str) -> float:
        """Seconds since then; 0 for what was loaded before the first confirmation."""
        confirmed = self.confirmed(project)
        return self._since_s(confirmed) if confirmed is not None else 0.0

    def staleness_s(self) -> float | None:
        """The largest age of all; None before the first confirmation."""
        state = self._state
        times = [time for time in (state.confirmed, *state.behind.values()) if time is not None]
        return self._since_s(min(times)) if times else None

    def _since_s(self, time: datetime) -> float:
        return max(0.0, (self._clock.now() - time).total_seconds())

    def _tell(self, project: str) -> None:
        for listener in self._listeners:
            listener(project)


def _of_all(failures: Mapping[str, DomainError]) -> DomainError:
    """One error; of its kind is the first that is no outage, for an outage goes by itself."""
    found = sorted(failures.values(), key=lambda failure: failure.code is Code.UNAVAILABLE)
    texts = [
        failure.message if repr(project) in failure.message else f"project {project!r}: {failure}"
        for project, failure in failures.items()
    ]
    return DomainError(found[0].code, found[0].reason, "; ".join(texts))


@contextmanager
def _understood(project: str) -> Iterator[None]:
    """Whatever is wrong with what is stored of a project is of this project alone: name it."""
    try:
        yield
    except DomainError:
        raise
    except Exception as error:
        raise DomainError(
            Code.INTERNAL, "INTERNAL", f"project {project!r} cannot be read: {error!r}"
        ) from error
