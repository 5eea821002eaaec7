"""Fakes of ports, for tests of every room."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from contextlib import contextmanager

from shared.security.caller import CALL, Call, Caller, Role


class FixedClock:
    """A clock that stands still until it is moved."""

    def __init__(self, now: dt.datetime | None = None) -> None:
        self._now = now or dt.datetime(2026, 1, 1, tzinfo=dt.UTC)

    def now(self) -> dt.datetime:
        """The set time."""
        return self._now

    def advance(self, by: dt.timedelta) -> None:
        """Moves the clock."""
        self._now += by


class CountingIds:
    """Identifiers that count up: 0000000000000001 and so on."""

    def __init__(self) -> None:
        self._count = 0

    def new(self, characters: int = 16) -> str:
        """The next number, padded with zeros."""
        self._count += 1
        return str(self._count).zfill(characters)


@contextmanager
def calling(
    method: str,
    project: str = "demo",
    roles: frozenset[Role] = frozenset(Role),
    request_id: str = "r1",
) -> Iterator[Call]:
    """Within the block the code under test is serving this RPC for a key of the project."""
    call = Call(Caller(project, f"key-{project}", roles), method, request_id, "Bearer test")
    token = CALL.set(call)
    try:
        yield call
    finally:
        CALL.reset(token)
