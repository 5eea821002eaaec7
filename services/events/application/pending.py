"""Acknowledged batches that readers do not see yet, by project."""

import threading
from collections import deque
from collections.abc import Callable


class PendingBatches:
    """Counts batches from their acknowledgement until they are visible. Safe to use from threads.

    `visible` says the journal position up to which readers see everything.
    """

    def __init__(self, visible: Callable[[], int]) -> None:
        self._visible = visible
        self._lock = threading.Lock()
        self._positions: dict[str, deque[tuple[int, int]]] = {}
        """Positions, ascending, and how many batches of the project stand at each."""

    def add(self, project: str, position: int) -> None:
        """A batch of the project is durable at this position; positions never descend."""
        with self._lock:
            positions = self._positions.setdefault(project, deque())
            # Many small batches share a sync, and so a position.
            already = positions.pop()[1] if positions and positions[-1][0] == position else 0
            positions.append((position, already + 1))
            self._forget_visible(project)

    def of(self, project: str) -> int:
        """How many of the project's batches are not visible."""
        with self._lock:
            self._forget_visible(project)
            return sum(count for _, count in self._positions.get(project, ()))

    def total(self) -> int:
        """How many batches are not visible."""
        with self._lock:
            for project in list(self._positions):
                self._forget_visible(project)
            return sum(count for each in self._positions.values() for _, count in each)

    def _forget_visible(self, project: str) -> None:
        positions = self._positions.get(project)
        if positions is None:
            return
        visible = self._visible()
        while positions and positions[0][0] <= visible:
            positions.popleft()
        if not positions:
            del self._positions[project]
