"""Every row that is played."""

from __future__ import annotations

from tests.robustness.fault import Fault
from tests.robustness.rows import disk, duplicates, kill

FAULTS: tuple[Fault, ...] = (
    kill.KILL,
    duplicates.REPEAT,
    duplicates.CONFLICTS,
    duplicates.TENANTS,
    duplicates.PARTIAL,
    disk.FULL,
    kill.TERMINATE,
)
