"""Work on many projects, of which one that hangs keeps no other waiting."""

import threading
from collections import deque
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait

from shared.errors import Code, DomainError

_AT_ONCE = 4
PATIENCE_S = 5.0
"""How long nothing may be done before what is left is called slow."""


class Beside:
    """Does the same work for several projects, some at once, in threads that end with it.

    What takes too long is left to itself, and is not begun again before it is done.
    """

    def __init__(self, work: Callable[[str], object], patience_s: float = PATIENCE_S) -> None:
        self._work = work
        self._patience_s = patience_s
        self._lock = threading.Lock()
        self._busy: dict[str, Future[DomainError | None]] = {}

    def each(self, projects: Collection[str]) -> Mapping[str, DomainError]:
        """Do it for each; the failures, by project. DEADLINE_EXCEEDED for what is not done yet."""
        with self._lock:
            fresh: dict[str, Future[DomainError | None]] = {
                project: Future() for project in sorted(projects) if project not in self._busy
            }
            self._busy |= fresh
        waiting = deque(fresh)
        for _ in range(min(_AT_ONCE, len(fresh))):
            # A daemon, for what hangs must not hold up the end of the process.
            threading.Thread(target=self._serve, args=(waiting,), daemon=True).start()
        self._wait(fresh)
        self._forget(waiting)
        failures = {project: self._failure(fresh.get(project), project) for project in projects}
        return {project: failure for project, failure in failures.items() if failure is not None}

    def _serve(self, waiting: deque[str]) -> None:
        while True:
            try:
                project = waiting.popleft()
            except IndexError:
                return
            failure = self._try(project)
            with self._lock:
                done = self._busy.pop(project)
            done.set_result(failure)

    def _try(self, project: str) -> DomainError | None:
        try:
            self._work(project)
        except DomainError as error:
            return error
        except Exception as error:  # noqa: BLE001  nobody else would hear of it
            text = f"project {project!r} cannot be read: {error!r}"
            return DomainError(Code.INTERNAL, "INTERNAL", text)
        return None

    def _wait(self, fresh: Mapping[str, Future[DomainError | None]]) -> None:
        left = set(fresh.values())
        while left:
            done, left = wait(left, self._patience_s, FIRST_COMPLETED)
            if not done:
                return

    def _forget(self, waiting: deque[str]) -> None:
        """What no thread came to is free to be begun again."""
        while waiting:
            project = waiting.popleft()
            with self._lock:
                del self._busy[project]

    def _failure(
        self, future: Future[DomainError | None] | None, project: str
    ) -> DomainError | None:
        if future is not None and future.done():
            return future.result()
        text = (
            f"project {project!r} takes longer than {self._patience_s:g} s to load; it goes on "
            "loading, and what it had before decides"
        )
        return DomainError(Code.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED", text)
