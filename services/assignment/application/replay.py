"""What a project decided at an older configuration version."""

import threading
from collections import OrderedDict

from services.assignment.application.snapshots import (
    Describe,
    IdSets,
    Snapshot,
    compile_snapshot,
    no_id_sets,
    undescribed,
)
from services.assignment.ports import ConfigurationReader
from services.assignment.wire.ruleset import to_ruleset
from shared import errors

MOST_KEPT = 16
"""Older versions that stay compiled, of all projects together."""


class Replays:
    """Snapshots of older versions: loaded and compiled when asked for, the last few are kept.

    A version that is over never changes, so that a kept one is as good as a new one.
    """

    def __init__(
        self,
        reader: ConfigurationReader,
        describe: Describe = undescribed,
        id_sets: IdSets = no_id_sets,
    ) -> None:
        self._reader = reader
        self._describe = describe
        self._id_sets = id_sets
        self._kept: OrderedDict[tuple[str, int], Snapshot] = OrderedDict()
        self._lock = threading.Lock()

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
        with self._reader.read() as configuration:
            config = configuration.load(project, config_version)
        if config.config_version < config_version:
            newest = config.config_version
            allowed = f"1 to {newest}, the newest of the project, or 0" if newest else "0 alone"
            raise errors.invalid("config_version", config_version, allowed)
        try:
            made = compile_snapshot(
                to_ruleset(config, project), None, self._describe, self._id_sets
            )
        except LookupError as error:
            raise errors.not_found("id list of version", str(config_version)) from error
        with self._lock:
            self._kept[project, config_version] = made
            while len(self._kept) > MOST_KEPT:
                self._kept.popitem(last=False)
        return made
