"""The room on the disks that the events service writes to."""

import os
from collections.abc import Sequence
from pathlib import Path

from services.events.application.disk_room import Space


def fullest(folders: Sequence[Path]) -> Space:
    """The space of that folder's disk which has the least free. Folders that exist."""
    spaces = []
    for folder in folders:
        found = os.statvfs(folder)
        size = found.f_frsize
        spaces.append(Space(found.f_bavail * size, found.f_blocks * size))
    return min(spaces, key=lambda space: space.free_bytes)
