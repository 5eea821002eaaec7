"""Every row that is played."""

from __future__ import annotations

from tests.robustness.fault import Fault
from tests.robustness.rows import (
    clocks,
    damage,
    disk,
    duplicates,
    kill,
    memory,
    pause,
    power,
    recovery,
    replies,
    steps,
)

FAULTS: tuple[Fault, ...] = (
    kill.KILL,
    power.POWER,
    steps.STEPS,
    replies.LOST_REPLY,
    replies.OTHER_BODY,
    duplicates.REPEAT,
    duplicates.CONFLICTS,
    duplicates.TENANTS,
    duplicates.PARTIAL,
    disk.FULL,
    disk.FAILING,
    disk.NO_FILES,
    memory.MEMORY,
    damage.DAMAGE,
    damage.STRANGERS,
    kill.TERMINATE,
    pause.PAUSED,
    pause.SLOW,
    pause.TWO,
    clocks.CLOCK_STEPS,
    clocks.TIMES,
    clocks.ORDERS,
    recovery.ERASED,
    recovery.BACKUPS,
    recovery.UPGRADES,
)
