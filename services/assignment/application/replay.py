"""What a project decided at an older configuration version."""

import threading
from collections import OrderedDict

from services.assignment.application.snapshots import (
    Describe,
    IdSets,
    Snapshot,
    Snapshots,
    compile_snapshot,
    no_id_sets,
    undescribed,
)
from services.assignment.ports import ConfigurationReader
from services.assignment.wire.ruleset import to_ruleset
from shared import errors

MOST_KEPT = 16
"""Older versions that stay compiled, of all projects together."""
MOST_OF_A_PROJECT = 4
"""Of those, so that no project pushes out all others."""


class Replays:
    """Snapshots of older versions: loaded and compiled when asked for, the last few are kept.

    They are forgotten whenever the project's configuration moves on: a unit may have been forgotten
    by then, which takes it out of older versions too.
    """

    def __init__(
        self,
        reader: ConfigurationReader,
        snapshots: Snapshots,
        describe: Describe = undescribed,
        id_sets: IdSets = no_id_sets,
    ) -> None:
        self._reader = reader
        self._snapshots = snapshots
        self._describe = describe
        self._id_sets = id_sets
        self._kept: OrderedDict[tuple[str, int], Snapshot] = OrderedDict()
        self._lock = threading.Lock()
        snapshots.listen(self._forget)

    def at(self, project: str, config_version: int) -> Snapshot:
        """The project as it was; blocks.

        INVALID_ARGUMENT for a version above the newest, NOT_FOUND when an id list of that time is
        gone, UNAVAILABLE when the store is away and the version is not kept.
        """
        with self._lock:
            found = self._kept.get((project, config_version))
            if found is not None:
                self._kept.move_to_end((project, config_version))
                return found
        current = self._snapshots.known(project)
        with self._reader.read() as configuration:
            config = configuration.load(project, config_version)
        if config.config_version < config_version:
            newest = config.config_version
            allowed = f"1 to {newest}, the newest of the project, or 0" if newest else "0 alone"
            raise errors.invalid("config_version", config_version, allowed)
        try:
            made = compile_snapshot(
                to_ruleset(config, project), current, self._describe, self._id_sets
            )
        except LookupError as error:
            raise errors.not_found("id list of version", str(config_version)) from error
        with self._lock:
            # What was loaded before the last change may hold what that took away.
            if current is not None and self._snapshots.known(project) is current:
                self._keep(project, config_version, made)
        return made

    def _keep(self, project: str, config_version: int, made: Snapshot) -> None:
        self._kept[project, config_version] = made
        of_project = [key for key in self._kept if key[0] == project]
        for key in of_project[:-MOST_OF_A_PROJECT]:
            del self._kept[key]
        while len(self._kept) > MOST_KEPT:
            self._kept.popitem(last=False)

    def _forget(self, project: str) -> None:
        with self._lock:
            for key in [key for key in self._kept if key[0] == project]:
                del self._kept[key]
