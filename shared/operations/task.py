"""What a piece of long-running work is given: its request, and a way to tell how far it is."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Callable
from typing import NoReturn, TypeVar

from google.protobuf.any_pb2 import Any
from google.protobuf.message import Message

from shared.operations.operation import Operation

M = TypeVar("M", bound=Message)


class Interrupted(Exception):  # noqa: N818  nothing is wrong: the work goes on after the restart
    """The service is shutting down, or another process took the operation over."""


class Cancelled(Exception):  # noqa: N818  see above
    """Somebody asked for the end of the operation, and its kind can be cancelled."""


class Postponed(Exception):  # noqa: N818  see above
    """The work goes on later, from its beginning and with the progress that it stored."""

    def __init__(self, until: dt.datetime) -> None:
        super().__init__(until)
        self.until = until


class Task:
    """One operation being worked on, in a thread of its own.

    The work may be ended at any moment, also by a crash, and is then begun again: it does what is
    left by what it finds, or by the progress that it stored.
    """

    def __init__(
        self,
        operation: Operation,
        store: Callable[[bytes], bool],
        stopping: threading.Event,
        cancellable: bool,
    ) -> None:
        self.operation = operation
        self._progress = operation.progress
        self._store = store
        self._stopping = stopping
        self._cancellable = cancellable

    @property
    def project(self) -> str:
        """The project that asked for it."""
        return self.operation.project

    def request(self, kind: type[M]) -> M:
        """What was asked for."""
        return _unpacked(self.operation.request, kind)

    def stored(self, kind: type[M]) -> M:
        """The progress that was stored last, by this run of the work or one before it."""
        return _unpacked(self._progress, kind)

    def progress(self, progress: Message) -> None:
        """Store how far the work is; callers see it as the metadata of the operation.

        Raises Interrupted or Cancelled when the work is to end here.
        """
        box = Any()
        box.Pack(progress, deterministic=True)
        self._progress = box.SerializeToString(deterministic=True)
        self.check()
        if self._store(self._progress) and self._cancellable:
            raise Cancelled

    def check(self) -> None:
        """Raises Interrupted when the service stops: the work is to end here and now."""
        if self._stopping.is_set():
            raise Interrupted

    def wait(self, seconds: float) -> None:
        """Sleep for seconds, not minutes: the thread is one of few. Raises Interrupted."""
        if self._stopping.wait(seconds):
            raise Interrupted

    def postpone(self, until: dt.datetime) -> NoReturn:
        """End this run of the work; it is begun again at `until`. Always raises."""
        raise Postponed(until)


def progress_of(operation: Operation, kind: type[M]) -> M:
    """The progress that an operation stored last."""
    return _unpacked(operation.progress, kind)


def _unpacked(data: bytes, kind: type[M]) -> M:
    message = kind()
    if not Any.FromString(data).Unpack(message):
        raise TypeError(f"the operation holds no {kind.DESCRIPTOR.full_name}")
    return message
