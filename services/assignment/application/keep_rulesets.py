"""Puts what decides on the disk, and back into memory when the store is away at the start."""

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta

from touchstone.assignment.v1.ruleset_pb2 import Ruleset

from services.assignment.application.snapshots import Snapshots
from services.assignment.serving_ports import KeptRuleset, RulesetDisk
from shared.errors import DomainError

_LOG = logging.getLogger("touchstone.assignment")
CONFIRMED_AGAIN = timedelta(minutes=10)
"""How old the time on the disk may be by which a restart knows the age of what it restores."""


@dataclass(frozen=True, slots=True)
class _Saved:
    digest: str
    confirm_time: datetime


class RulesetKeeper:
    """Follows the snapshots. Both methods block, and one caller calls them."""

    def __init__(self, snapshots: Snapshots, disk: RulesetDisk) -> None:
        self._snapshots = snapshots
        self._disk = disk
        self._saved: dict[str, _Saved] = {}
        self._failing = False

    def restore(self) -> int:
        """Take every project from the disk that is not known yet; how many there were.

        One that cannot decide is left out and logged.
        """
        restored = 0
        for kept in self._disk.load():
            try:
                ruleset = Ruleset.FromString(kept.ruleset)
                self._snapshots.restore(ruleset, kept.confirm_time)
            except DomainError as error:
                _LOG.error(
                    "a kept configuration cannot decide",
                    extra={"project": kept.project, "detail": error.message},
                )
            else:
                restored += 1
        if restored:
            _LOG.warning("deciding by configurations from the disk", extra={"projects": restored})
        return restored

    def save(self) -> None:
        """Write what changed since the last time, or was confirmed long after.

        A disk that takes nothing is logged once; deciding goes on.
        """
        for project, snapshot in self._snapshots.all().items():
            confirmed = self._snapshots.confirmed(project)
            if confirmed is None:
                continue
            saved = self._saved.get(project)
            if (
                saved is not None
                and saved.digest == snapshot.digest
                and confirmed - saved.confirm_time < CONFIRMED_AGAIN
            ):
                continue
            try:
                self._disk.keep(
                    KeptRuleset(project, snapshot.config_version, confirmed, snapshot.body)
                )
            except OSError as error:
                self._note_failure(error)
                return
            self._saved[project] = _Saved(snapshot.digest, confirmed)
        self._failing = False

    def _note_failure(self, error: OSError) -> None:
        if not self._failing:
            self._failing = True
            _LOG.error(
                "the configuration cannot be kept on the disk; after a restart without the store "
                "an older one would decide, or none",
                extra={"detail": error.strerror or type(error).__name__},
            )
