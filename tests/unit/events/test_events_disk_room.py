"""Room on the disk for the tables, before more is acknowledged."""

from pathlib import Path

import pytest

from services.events.adapters.disk_space import fullest
from services.events.application.disk_room import LARGEST_RESERVE_BYTES, DiskRoom, Space
from services.events.domain.event import Event
from shared.errors import Code, DomainError
from tests.unit.events.events_making import batch_of

MIB = 1024 * 1024
BATCH = batch_of(Event("e", 1, "user", "u", None, None, None, "conversions", ("buy", 1.0, None)))


class Disk:
    def __init__(self, free: int, total: int, waiting: int = 0) -> None:
        self.space, self.waiting, self.now, self.looks = Space(free, total), waiting, 0.0, 0
        self.room = DiskRoom(self._look, lambda: self.waiting, lambda: self.now)

    def _look(self) -> Space:
        self.looks += 1
        return self.space

    def lets_in(self) -> bool:
        try:
            self.room.check(BATCH)
        except DomainError:
            return False
        return True


@pytest.mark.parametrize(
    ("free", "total", "waiting", "let_in"),
    [
        (100 * MIB, 1000 * MIB, 0, True),
        (49 * MIB, 1000 * MIB, 0, False),
        (100 * MIB, 1000 * MIB, 60 * MIB, False),
        (120 * MIB, 1000 * MIB, 60 * MIB, True),
        (LARGEST_RESERVE_BYTES - 1, 10**15, 0, False),
        (LARGEST_RESERVE_BYTES + MIB, 10**15, 0, True),
        (0, 0, 0, False),
    ],
)
def test_a_reserve_and_what_waits_stay_free(
    free: int, total: int, waiting: int, let_in: bool
) -> None:
    assert Disk(free, total, waiting).lets_in() is let_in


def test_whoever_is_sent_away_is_told_when_to_come_again() -> None:
    with pytest.raises(DomainError, match="0 bytes are free on the disk") as raised:
        Disk(0, 1000 * MIB).room.check(BATCH)
    error = raised.value
    assert (error.code, error.reason) == (Code.RESOURCE_EXHAUSTED, "OVERLOADED")
    assert error.retry_after_s == 5.0


def test_it_heals_when_the_tables_took_what_waits() -> None:
    disk = Disk(60 * MIB, 1000 * MIB, waiting=30 * MIB)
    assert not disk.lets_in()
    disk.waiting = 0
    assert disk.lets_in()


def test_the_disk_is_looked_at_now_and_then() -> None:
    disk = Disk(100 * MIB, 1000 * MIB)
    assert all(disk.lets_in() for _ in range(10))
    disk.space, disk.now = Space(0, 1000 * MIB), 0.1
    assert disk.lets_in()
    disk.now = 0.3
    assert not disk.lets_in()
    assert disk.looks == 2


def test_the_fullest_disk_counts(tmp_path: Path) -> None:
    here = fullest([tmp_path, Path("/")])
    assert 0 < here.free_bytes <= here.total_bytes
    assert here.free_bytes <= fullest([tmp_path]).free_bytes + MIB * 1024
