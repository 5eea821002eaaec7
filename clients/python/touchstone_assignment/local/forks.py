"""What happens to every LocalAssignment of a process that makes a child with `fork`."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from typing import Protocol


class Forking(Protocol):
    """Something with threads and a connection, neither of which a child can use."""

    def before_fork(self) -> None:
        """Called in the parent, before."""
        ...

    def after_fork_in_parent(self) -> None:
        """Called in the parent, after."""
        ...

    def after_fork_in_child(self) -> None:
        """Called in the child."""
        ...


_ALL: weakref.WeakSet[Forking] = weakref.WeakSet()
_FOLLOWING = threading.Event()


def follow_forks(one: Forking) -> None:
    """Tell it of forks from now on. Hooks can be set and never removed: one set for all."""
    _ALL.add(one)
    if _FOLLOWING.is_set() or not hasattr(os, "register_at_fork"):
        return
    _FOLLOWING.set()

    def each(act: Callable[[Forking], None]) -> Callable[[], None]:
        def call() -> None:
            for each_one in tuple(_ALL):
                act(each_one)

        return call

    os.register_at_fork(
        before=each(lambda one: one.before_fork()),
        after_in_parent=each(lambda one: one.after_fork_in_parent()),
        after_in_child=each(lambda one: one.after_fork_in_child()),
    )
