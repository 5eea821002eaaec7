"""Stop what the engine computes for a caller that is gone."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Stop = Callable[[], None]


class Interruption:
    """Of one analysis: whoever runs it says when it is not wanted any more."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stops: list[Stop] = []
        self._interrupted = False

    @property
    def interrupted(self) -> bool:
        """Whether it is not wanted any more."""
        return self._interrupted

    def interrupt(self) -> None:
        """Stop what is being computed at this moment; the next query would begin all the same."""
        self._interrupted = True
        with self._lock:
            for stop in self._stops:
                stop()

    @contextmanager
    def covering(self, stop: Stop) -> Iterator[None]:
        """Within the block `stop` is called from another thread at any time, and never after it."""
        with self._lock:
            self._stops.append(stop)
        try:
            yield
        finally:
            with self._lock:
                self._stops.remove(stop)


INTERRUPTION: ContextVar[Interruption | None] = ContextVar("touchstone_interruption", default=None)
"""Of the analysis that is being computed here, if any."""


@contextmanager
def interruptible(stop: Stop) -> Iterator[None]:
    """Within the block the analysis that is being computed here may be stopped by `stop`."""
    interruption = INTERRUPTION.get()
    if interruption is None:
        yield
        return
    with interruption.covering(stop):
        yield


def require_wanted() -> None:
    """Raise InterruptedError when nobody wants the analysis that is being computed here."""
    interruption = INTERRUPTION.get()
    if interruption is not None and interruption.interrupted:
        raise InterruptedError("the caller of the analysis is gone")
