"""Holdouts: whom they keep out of what, several at once, from their creation to their end."""

from datetime import timedelta
from typing import Any

import pytest
from touchstone_assignment.decision import Reason
from touchstone_assignment.subject import Subject

from services.assignment.application.find_resource import Change, Which
from services.assignment.application.holdouts import end_holdout, update_holdout
from services.assignment.domain.experiment import AssignmentSource
from services.assignment.domain.holdout import Holdout
from services.assignment.domain.limits import LIMITS
from shared.errors import Code, DomainError
from tests.unit.assignment.storing import START, Stored

UNITS = [Subject({"user": f"u{number}", "device": f"d{number}"}) for number in range(4000)]


def end(stored: Stored, holdout_id: str, etag: str = "") -> Holdout:
    which = Which("acme", holdout_id, etag)
    return stored.change(lambda c: end_holdout(which, c, stored.now))


def held(stored: Stored, experiment_id: str, as_of: int | None = None) -> set[str]:
    """The units that the experiment answers HOLDOUT for."""
    evaluator = stored.evaluator(as_of)
    return {
        unit.ids["user"]
        for unit in UNITS
        if evaluator.decide(experiment_id, unit).reason is Reason.HOLDOUT
    }


def test_a_global_holdout_keeps_its_share_out_of_everything_of_its_unit_type(
    stored: Stored,
) -> None:
    stored.running("button")
    stored.running("screen", unit_type="device")
    stored.holdout("all", 1000)
    stored.running("later")
    assert 300 < len(held(stored, "button")) < 500
    assert held(stored, "button") == held(stored, "later")
    assert held(stored, "screen") == set()
    evaluator = stored.evaluator()
    told = {unit.ids["user"] for unit in UNITS if "all" in evaluator.held_out(unit)}
    assert told == held(stored, "button")


def test_a_scoped_holdout_covers_its_layers_and_experiments_alone(stored: Stored) -> None:
    stored.layer("checkout")
    stored.running("button", layer="checkout", traffic_slots=5000)
    stored.running("price")
    stored.running("free")
    stored.holdout("some", 2000, layers=("checkout",), experiments=("price",))
    stored.running("later", layer="checkout", traffic_slots=5000)
    assert held(stored, "button") == held(stored, "price") == held(stored, "later")
    assert 600 < len(held(stored, "price")) < 1000
    assert held(stored, "free") == set()


def test_several_holdouts_keep_out_independently_of_each_other(stored: Stored) -> None:
    stored.running("button")
    first = stored.holdout("first", 5000, experiments=("button",))
    one = held(stored, "button")
    second = stored.holdout("second", 5000)
    both = held(stored, "button")
    assert first.salt != second.salt
    assert one < both
    # Of the 2000 that the first one left, the second takes a half: by chance 850 to 1150.
    assert 850 < len(both - one) < 1150


def test_the_end_of_a_holdout_lets_its_units_in_and_is_remembered(stored: Stored) -> None:
    stored.running("button")
    stored.holdout("all", 3000)
    out = held(stored, "button")
    stored.now = START + timedelta(days=90)
    ended = end(stored, "all")
    assert (ended.ended, ended.end_time, ended.etag) == (True, stored.now, "v4")
    assert held(stored, "button") == set()
    assert held(stored, "button", as_of=3) == out
    assert held(stored, "button", as_of=2) == set()
    with pytest.raises(DomainError, match="holdout all' is ended") as caught:
        end(stored, "all")
    assert (caught.value.code, caught.value.reason) == (Code.FAILED_PRECONDITION, "WRONG_STATE")


def test_units_of_a_running_experiment_are_held_out_from_then_on(stored: Stored) -> None:
    """The others keep their variants."""
    stored.running("button")
    before = {u.ids["user"]: stored.evaluator().decide("button", u).variant for u in UNITS[:500]}
    stored.holdout("late", 2500)
    evaluator = stored.evaluator()
    for unit in UNITS[:500]:
        decision = evaluator.decide("button", unit)
        expected = None if decision.reason is Reason.HOLDOUT else before[unit.ids["user"]]
        assert decision.variant == expected
    assert None in {evaluator.decide("button", unit).variant for unit in UNITS[:500]}


def test_only_the_texts_of_a_holdout_change(stored: Stored) -> None:
    made = stored.holdout("all", 500, description="Q1")
    change = Change(Which("acme", "all", "v1"), {"display_name": "All", "description": "Q1 to Q4"})
    changed = stored.change(lambda c: update_holdout(change, c, START))
    assert (changed.display_name, changed.description, changed.etag) == ("All", "Q1 to Q4", "v2")
    assert (changed.salt, changed.slots) == (made.salt, made.slots)
    with pytest.raises(DomainError) as caught:
        end(stored, "all", etag="v1")
    assert (caught.value.code, caught.value.reason) == (Code.ABORTED, "STALE_ETAG")


def test_a_scope_of_another_unit_type_or_of_nothing_is_refused(stored: Stored) -> None:
    stored.layer("screens", unit_type="device")
    stored.experiment("screen", unit_type="device")
    stored.experiment("bought", source=AssignmentSource.EXTERNAL)
    refused: dict[str, dict[str, Any]] = {
        "layers[0] is 'screens'; allowed: layers of units of type 'user'": {"layers": ("screens",)},
        "experiments[0] is 'screen'; allowed: experiments on": {"experiments": ("screen",)},
        "experiments[0] is 'bought'; allowed: experiments that this": {"experiments": ("bought",)},
        "no layer 'gone'": {"layers": ("gone",)},
        "no experiment 'gone'": {"experiments": ("gone",)},
    }
    version = stored.load().config_version
    for message, scope in refused.items():
        with pytest.raises(DomainError) as caught:
            stored.holdout("some", **scope)
        assert message in caught.value.message
    assert stored.load().config_version == version


def test_a_taken_id_is_refused_also_after_the_end(stored: Stored) -> None:
    stored.holdout("all")
    end(stored, "all")
    with pytest.raises(DomainError) as caught:
        stored.holdout("all")
    assert caught.value.code is Code.ALREADY_EXISTS


def test_there_is_room_for_so_many_in_force(stored: Stored) -> None:
    for number in range(LIMITS.max_holdouts):
        stored.holdout(f"h{number}", 1)
    with pytest.raises(DomainError, match="is 51; at most 50") as caught:
        stored.holdout("more", 1)
    assert caught.value.code is Code.RESOURCE_EXHAUSTED
    end(stored, "h0")
    stored.holdout("more", 1)
