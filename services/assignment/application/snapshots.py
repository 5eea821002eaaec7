"""The compiled configuration of every project, in memory and kept when the store is away."""

import threading
from dataclasses import dataclass
from datetime import datetime

from services.assignment.domain.compile import (
    Describe,
    Snapshot,
    compile_snapshot,
    undescribed,
)
from services.assignment.ports import ConfigurationReader
from shared.clock import Clock
from shared.errors import Code, DomainError


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
        self, reader: ConfigurationReader, clock: Clock, describe: Describe = undescribed
    ) -> None:
        self._reader = reader
        self._clock = clock
        self._describe = describe
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
            new = compile_snapshot(
                config.config_version, config.experiments, config.layers, old, self._describe
            )
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
