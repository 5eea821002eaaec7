"""What may change in which state: drops, schedules, weights and the kill switch."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from services.assignment.domain.experiment import (
    Allocation,
    AssignmentSource,
    Experiment,
    Prerequisite,
    RampStage,
    Schedule,
    State,
    Switchback,
    ValueType,
    Variant,
)
from services.assignment.domain.lifecycle import kill, revise, revive, reweight
from shared.errors import Code, DomainError
from tests.unit.assignment.making import START, Make

LASTING = (State.RUNNING, State.PAUSED)
OVER = (State.STOPPED, State.ARCHIVED)
HOUR = timedelta(hours=1)


def refused(call: Callable[[], object], *parts: str) -> DomainError:
    with pytest.raises(DomainError) as caught:
        call()
    assert (caught.value.code, caught.value.reason) == (Code.FAILED_PRECONDITION, "WRONG_STATE")
    for part in parts:
        assert part in caught.value.message
    return caught.value


def with_dropped(experiment: Experiment, *keys: str) -> Any:
    design = experiment.design
    variants = tuple(replace(v, dropped=v.key in keys) for v in design.variants)
    return replace(design, variants=variants)


@pytest.mark.parametrize("state", LASTING)
def test_a_variant_is_dropped_while_it_lasts_and_not_taken_back(make: Make, state: State) -> None:
    thirds = (Variant("control", 4000), Variant("a", 3000), Variant("b", 3000))
    running = make.experiment(state, variants=thirds)
    dropped = revise(running, with_dropped(running, "a"), make.at(2))
    assert [v.dropped for v in dropped.design.variants] == [False, True, False]
    both = revise(dropped, with_dropped(dropped, "a", "b"), make.at(3))
    assert [v.dropped for v in both.design.variants] == [False, True, True]
    refused(lambda: revise(both, with_dropped(both, "b"), make.at(4)), "['a']", "a new experiment")


@pytest.mark.parametrize(
    "changed",
    [
        (Variant("control", 4000), Variant("green", 6000, dropped=True)),
        (Variant("control", 5000), Variant("green", 5000, payload="{}", dropped=True)),
        (Variant("green", 5000, dropped=True), Variant("control", 5000)),
        (Variant("control", 5000),),
        (Variant("control", 5000), Variant("green", 5000, value="1")),
    ],
)
def test_nothing_else_of_a_variant_changes_while_it_runs(
    make: Make, changed: tuple[Variant, ...]
) -> None:
    running = make.experiment(State.RUNNING)
    design = replace(running.design, variants=changed)
    refused(lambda: revise(running, design, make.at(2)), "only be dropped")


@pytest.mark.parametrize("state", OVER)
def test_nothing_is_dropped_once_it_is_over(make: Make, state: State) -> None:
    over = make.experiment(state)
    refused(lambda: revise(over, with_dropped(over, "green"), make.at(2)), "variants")


def test_nothing_is_dropped_from_a_draft(make: Make) -> None:
    draft = make.experiment()
    with pytest.raises(DomainError, match="leave the variant out") as caught:
        revise(draft, with_dropped(draft, "green"), make.at(2))
    assert caught.value.code is Code.INVALID_ARGUMENT


FIXED: list[dict[str, Any]] = [
    {"value_type": ValueType.STRING},
    {"targeting": "{}"},
    {"prerequisites": (Prerequisite("a"),)},
    {"sticky": True},
    {"anonymous_unit_type": "device"},
    {"switchback": Switchback(3600)},
    {"observed_unit_type": "customer"},
    {"control": "green"},
]


@pytest.mark.parametrize("change", FIXED, ids=lambda change: next(iter(change)))
def test_what_decides_is_fixed_once_it_has_started(make: Make, change: dict[str, Any]) -> None:
    assert revise(make.experiment(), make.design(**change), make.at(2)).design == make.design(
        **change
    )
    for state in (*LASTING, *OVER):
        refused(
            lambda: revise(make.experiment(state), make.design(**change), make.at(2)),  # noqa: B023  called at once
            next(iter(change)),
        )


@pytest.mark.parametrize("state", State)
def test_allocation_salt_hash_and_unit_are_fixed_at_creation(make: Make, state: State) -> None:
    for field, value in {
        "allocation": Allocation.BANDIT,
        "salt": "split/other",
        "unit_type": "device",
        "hash_version": "flagd-v3",
        "source": AssignmentSource.EXTERNAL,
        "layer": "other",
    }.items():
        change = {field: value}
        refused(
            lambda: revise(make.experiment(state), make.design(**change), make.at(2)),  # noqa: B023  called at once
            field,
        )


def test_a_schedule_changes_while_it_lasts_but_not_the_start_that_was(make: Make) -> None:
    ramp = Schedule(ramp=(RampStage(START, 10_000),), stop_time=START + HOUR)
    for state in LASTING:
        running = make.experiment(state, schedule=Schedule(START), traffic_slots=1)
        assert (
            revise(running, make.design(schedule=ramp, traffic_slots=1), make.at(2)).design.schedule
            == ramp
        )
        again = make.design(schedule=Schedule(START + HOUR), traffic_slots=1)
        refused(lambda: revise(running, again, make.at(2)), "it has started")  # noqa: B023  called at once
        same = make.design(schedule=Schedule(START, START + HOUR), traffic_slots=1)
        assert revise(running, same, make.at(2)).design == same
    for state in OVER:
        refused(
            lambda: revise(make.experiment(state), make.design(schedule=ramp), make.at(2)),  # noqa: B023  called at once
            "schedule",
        )


@pytest.mark.parametrize("state", [State.DRAFT, *LASTING])
def test_a_bandit_takes_weights_and_nothing_else_changes(make: Make, state: State) -> None:
    bandit = make.experiment(state, allocation=Allocation.BANDIT)
    found = reweight(bandit, {"control": 0, "green": 10_000}, make.at(7, HOUR))
    assert [v.weight for v in found.design.variants] == [0, 10_000]
    assert (found.config_version, found.update_time) == (7, START + HOUR)
    restored = reweight(found, {"control": 5000, "green": 5000}, make.at(1))
    assert replace(restored, update_time=START) == bandit


def test_weights_of_a_fixed_split_never_change_by_themselves(make: Make) -> None:
    weights = {"control": 1, "green": 9999}
    running = make.experiment(State.RUNNING)
    refused(lambda: reweight(running, weights, make.at(2)), "FIXED", "allocation BANDIT")
    for state in OVER:
        over = make.experiment(state, allocation=Allocation.BANDIT)
        refused(lambda: reweight(over, weights, make.at(2)), state)  # noqa: B023  called at once


@pytest.mark.parametrize("state", [s for s in State if s is not State.ARCHIVED])
def test_the_kill_switch_turns_on_and_off_in_any_state(make: Make, state: State) -> None:
    before = make.experiment(state)
    killed = kill(before, "prices are wrong", make.at(2))
    assert (killed.killed, killed.kill_reason, killed.state) == (True, "prices are wrong", state)
    assert killed.etag == "v2"
    assert replace(revive(killed, make.at(1)), update_time=START) == before


def test_there_is_nothing_to_kill_in_what_is_put_away_or_assigned_elsewhere(make: Make) -> None:
    refused(lambda: kill(make.experiment(State.ARCHIVED), "x", make.at(2)), "ARCHIVED")
    external = replace(make.experiment(State.RUNNING), design=make.external())
    refused(lambda: kill(external, "x", make.at(2)), "in the system that assigns it")
