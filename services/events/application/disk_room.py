"""Keep room on the disk for moving what is acknowledged into the tables.

Without it the journal takes the last byte, its entries cannot leave it, and nothing heals by
itself when there is a little room again: the journal takes that too.
"""

from collections.abc import Callable
from dataclasses import dataclass

from services.events.batch import Batch
from shared.errors import overloaded

LARGEST_RESERVE_BYTES = 64 * 1024 * 1024
RESERVED_SHARE = 1 / 20
LOOK_EVERY_S = 0.2
RETRY_S = 5.0


@dataclass(frozen=True, slots=True)
class Space:
    """A disk: how much of it is free."""

    free_bytes: int
    total_bytes: int


class DiskRoom:
    """Lets batches in while the disk holds them, the tables' copy of them, and a reserve.

    `space` is that of the fullest disk that the service writes to, `waiting_bytes` what the
    journal still has to hand over. Use it from one thread at a time.
    """

    def __init__(
        self,
        space: Callable[[], Space],
        waiting_bytes: Callable[[], int],
        monotonic: Callable[[], float],
    ) -> None:
        self._space = space
        self._waiting_bytes = waiting_bytes
        self._monotonic = monotonic
        self._seen = Space(0, 0)
        self._look_at = float("-inf")

    def check(self, batch: Batch) -> None:
        """RESOURCE_EXHAUSTED when the batch would take room that others need first."""
        now = self._monotonic()
        if now >= self._look_at:
            self._seen, self._look_at = self._space(), now + LOOK_EVERY_S
        reserve = min(LARGEST_RESERVE_BYTES, int(self._seen.total_bytes * RESERVED_SHARE))
        kept = reserve + self._waiting_bytes()
        if self._seen.free_bytes < kept + 2 * batch.size_bytes:
            raise overloaded(
                f"{self._seen.free_bytes} bytes are free on the disk, and {kept} are kept for "
                "moving acknowledged events into the tables: free some space, and send this "
                "batch again later",
                retry_after_s=RETRY_S,
            )
