"""Every row that is played."""

from __future__ import annotations

from tests.robustness.fault import Fault
from tests.robustness.rows import disk, duplicates, kill, power, steps

FAULTS: tuple[Fault, ...] = (
    kill.KILL,
    power.POWER,
    steps.STEPS,
    duplicates.REPEAT,
    duplicates.CONFLICTS,
    duplicates.TENANTS,
    duplicates.PARTIAL,
    disk.FULL,
    kill.TERMINATE,
)
