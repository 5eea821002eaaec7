"""Calls and watches have places of their own."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from shared.errors import Code, DomainError
from shared.server.capacity import Capacity
from shared.server.rules import Rule

CALL = Rule(frozenset(), any_role=True, mutation=False, per_item="", max_duration_s=None)
WATCH = Rule(
    frozenset(), any_role=True, mutation=False, per_item="", max_duration_s=None, watch=True
)


@pytest.mark.parametrize(("full", "free", "limit"), [(CALL, WATCH, 2), (WATCH, CALL, 3)])
def test_one_kind_takes_no_place_of_the_other(full: Rule, free: Rule, limit: int) -> None:
    capacity = Capacity(calls=2, watches=3)
    with ExitStack() as stack:
        for _ in range(limit):
            stack.enter_context(capacity.one(full))
        with pytest.raises(DomainError, match=f"{limit} ") as caught, capacity.one(full):
            pass
        assert caught.value.code is Code.RESOURCE_EXHAUSTED
        assert caught.value.retry_after_s
        with capacity.one(free):
            pass


def test_a_place_is_free_again_after_an_error() -> None:
    capacity = Capacity(calls=1, watches=0)
    for _ in range(3):
        with pytest.raises(LookupError), capacity.one(None):
            raise LookupError


def test_the_transport_lets_in_more_than_is_served() -> None:
    assert Capacity(calls=2, watches=3).transport > 5
