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


def test_one_project_leaves_watches_to_the_others() -> None:
    capacity = Capacity(calls=1, watches=5)

    def refused(project: str) -> str:
        with pytest.raises(DomainError) as caught, capacity.of_project(WATCH, project):
            pass
        assert (caught.value.code, caught.value.retry_after_s) == (Code.RESOURCE_EXHAUSTED, 1.0)
        return caught.value.message

    for _ in range(2):  # the second time all places are free again
        with ExitStack() as stack:
            for _ in range(3):
                stack.enter_context(capacity.of_project(WATCH, "greedy"))
            assert "3 watches of project greedy" in refused("greedy")
            for project in ("one", "two"):
                stack.enter_context(capacity.of_project(WATCH, project))
            assert "5 watches of all projects" in refused("three")
            for _ in range(9):
                stack.enter_context(capacity.of_project(CALL, "greedy"))


def test_a_place_is_free_again_after_an_error() -> None:
    capacity = Capacity(calls=1, watches=0)
    for _ in range(3):
        with pytest.raises(LookupError), capacity.one(None):
            raise LookupError


def test_the_transport_lets_in_more_than_is_served() -> None:
    assert Capacity(calls=2, watches=3).transport > 5
