"""What is refused before a service is asked."""

from __future__ import annotations

import pytest
import typer
from touchstone.events.v1 import erasure_service_pb2 as pb
from touchstone.events.v1.identity_service_pb2 import IdTypePolicy

from services.cli.commands import erasure, identity, rejected


@pytest.mark.parametrize("number", ["0", "1001", "9" * 5000, "-1", "²", "many"])
def test_limit_of_a_type_that_cannot_be(number: str) -> None:
    with pytest.raises(typer.BadParameter, match=r"from 1 to 1000.*--block"):
        identity._set_type({}, "limit", "--allow", f"customer={number}")


def test_lowest_and_highest_limit_and_rank_are_taken() -> None:
    types: dict[str, IdTypePolicy] = {}
    identity._set_type(types, "limit", "--allow", "customer=1")
    identity._set_type(types, "rank", "--rank", "customer=0")
    identity._set_type(types, "limit", "--allow", "device=1000")
    assert [(one.limit, one.rank) for one in types.values()] == [(1, 0), (1000, 0)]


@pytest.mark.parametrize("number", ["abc", "", "projects/p/rejectedEvents/x", "1.5", "-1"])
def test_number_of_a_rejected_event_that_is_none(number: str) -> None:
    with pytest.raises(typer.BadParameter, match="allowed: the number of a rejected event"):
        rejected.show(number)
    with pytest.raises(typer.BadParameter, match="allowed: the number of a rejected event"):
        rejected.replay([number])


@pytest.mark.parametrize("end", ["2026-01-30", "2026-01-31"])
def test_start_that_is_not_before_the_end(end: str) -> None:
    with pytest.raises(typer.BadParameter, match=f"--start is '2026-01-31' and --end is '{end}'"):
        rejected.list_events(start="2026-01-31", end=end)


def test_trial_of_an_erasure_does_not_look_like_one() -> None:
    one = pb.Erasure(name="projects/p/erasures/1", state=pb.ERASURE_STATE_RUNNING)
    assert erasure._row(one, trial=True)[1] == "not erased"
    assert erasure._row(one)[1] == "running"
