"""Places for streams, which last: bounded in all, and for each project, so that no key and no
client that opens them without an end shuts out all other tenants.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from shared.errors import overloaded

_SHARE = 2
"""One project may have one place of so many: a process that serves one large project serves it."""


class StreamPlaces:
    """The places of one kind of streams, called `what`; `remedy` is what to do without one."""

    def __init__(self, streams: int, what: str, remedy: str, retry_s: float) -> None:
        self._most = streams
        self._of_project = -(-streams // _SHARE)
        self._what, self._remedy, self._retry_s = what, remedy, retry_s
        self._open: Counter[str] = Counter()
        self._taken = 0

    @property
    def taken(self) -> int:
        """How many are taken now."""
        return self._taken

    @contextmanager
    def place(self, project: str) -> Iterator[None]:
        """One until the end of the block; RESOURCE_EXHAUSTED, with a delay, when none is free."""
        for who, used, most in (
            (f"of project {project}", self._open[project], self._of_project),
            ("of all projects", self._taken, self._most),
        ):
            if used >= most:
                raise self._refused(who, used, most)
        self._open[project] += 1
        self._taken += 1
        try:
            yield
        finally:
            self._taken -= 1
            self._open[project] -= 1
            if not self._open[project]:
                del self._open[project]

    def _refused(self, who: str, used: int, most: int) -> Exception:
        return overloaded(
            f"{used} {self._what} {who} are open, and at most {most} may be; {self._remedy}",
            self._retry_s,
        )
