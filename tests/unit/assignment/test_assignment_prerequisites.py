"""What an experiment needs of others is there, and no chain is a circle or too long."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.assignment.domain.experiment import (
    Allocation,
    Experiment,
    Prerequisite,
    State,
    Switchback,
    Variant,
)
from services.assignment.domain.prerequisites import (
    moves_units,
    needed_by,
    require_not_needed,
    require_offered,
    require_prerequisites,
)
from shared.errors import Code, DomainError
from tests.unit.assignment.making import Make


def needing(key: str, *others: str, state: State = State.DRAFT, **changes: Any) -> Experiment:
    """An experiment in a layer of its own that needs others."""
    needed = tuple(Prerequisite(other) for other in others)
    defaults = {"prerequisites": needed, "layer": key}
    return Make().experiment(state, key, **(defaults | changes))


def project(*experiments: Experiment) -> dict[str, Experiment]:
    return {found.experiment_id: found for found in experiments}


def faults(experiment: Experiment, *others: Experiment) -> dict[str, str]:
    with pytest.raises(DomainError) as caught:
        require_prerequisites(experiment, project(*others))
    assert caught.value.code is Code.INVALID_ARGUMENT
    return {violation.field: violation.description for violation in caught.value.violations}


def test_what_is_needed_is_there_and_serves() -> None:
    require_prerequisites(needing("a", "b"), project(needing("b", state=State.RUNNING)))
    require_prerequisites(needing("a", "b"), project(needing("b")))
    found = faults(needing("a", "nowhere"), needing("b"))
    assert "'nowhere'" in found["prerequisites[0].experiment"]
    over = faults(needing("a", "b"), needing("b", state=State.STOPPED))
    assert "it is STOPPED" in over["prerequisites[0].experiment"]
    external = replace(Make().experiment(experiment_id="b"), design=Make().external())
    assert "others assign it" in faults(needing("a", "b"), external)["prerequisites[0].experiment"]


def test_units_and_variants_are_those_of_the_other() -> None:
    other = needing("b", unit_type="device")
    assert "'user'" in faults(needing("a", "b"), other)["prerequisites[0].experiment"]
    blue = needing("a", prerequisites=(Prerequisite("b", ("green", "blue")),))
    found = faults(blue, needing("b"))
    assert found.keys() == {"prerequisites[0].variants[1]"}
    assert "['control', 'green']" in found["prerequisites[0].variants[1]"]


def test_nobody_is_in_two_experiments_of_one_layer() -> None:
    same = needing("a", "b", layer="b")
    assert "layer 'b'" in faults(same, needing("b"))["prerequisites[0].experiment"]


@pytest.mark.parametrize(
    ("others", "circle"),
    [
        ((), "a -> a"),
        ((needing("b", "a"),), "a -> b -> a"),
        ((needing("b", "d", "c"), needing("c", "a"), needing("d")), "a -> b -> c -> a"),
    ],
)
def test_a_circle_is_named(others: tuple[Experiment, ...], circle: str) -> None:
    experiment = needing("a", "b" if others else "a")
    assert f"the circle {circle};" in faults(experiment, *others)["prerequisites"]


def chain(first: int, last: int) -> list[Experiment]:
    return [needing(f"e{n}", *([f"e{n + 1}"] if n < last else [])) for n in range(first, last + 1)]


def test_a_chain_has_at_most_8_prerequisites_on_either_side() -> None:
    eight = chain(0, 8)
    require_prerequisites(eight[0], project(*eight))
    require_prerequisites(eight[4], project(*eight))
    nine = chain(0, 9)
    for place in (0, 4, 8):
        found = faults(nine[place], *nine)["prerequisites"]
        assert " -> ".join(f"e{n}" for n in range(10)) in found
        assert "at most 8" in found


def test_many_ways_to_one_experiment_are_walked_once() -> None:
    # Eight layers of eight, each needing all of the next: 8 ** 8 ways.
    wide = [
        needing(f"e{depth}-{n}", *([f"e{depth + 1}-{m}" for m in range(8)] if depth < 7 else []))
        for depth in range(8)
        for n in range(8)
    ]
    require_prerequisites(needing("top", *[f"e0-{n}" for n in range(8)]), project(*wide))


def test_what_others_need_is_not_put_away_while_they_are_not_over() -> None:
    needed = needing("b")
    users = [needing(f"u{n}", "b", state=state) for n, state in enumerate(State)]
    assert needed_by("b", project(needed, *users)) == ["u0", "u1", "u2"]
    with pytest.raises(DomainError, match="u0, u1, u2") as caught:
        require_not_needed(needed, project(needed, *users), State.ARCHIVED)
    assert caught.value.code is Code.FAILED_PRECONDITION
    require_not_needed(needed, project(needed, *users[3:]), State.ARCHIVED)


def test_what_others_need_is_not_stopped_under_those_that_run() -> None:
    needed = needing("b", state=State.RUNNING)
    users = {state: needing(f"u-{state.lower()}", "b", state=state) for state in State}
    with pytest.raises(DomainError, match=r"u-paused, u-running.*kill or pause"):
        require_not_needed(needed, project(needed, *users.values()), State.STOPPED)
    require_not_needed(needed, project(needed, users[State.DRAFT]), State.STOPPED)


@pytest.mark.parametrize(
    ("field", "moving"),
    [
        ("allocation", {"allocation": Allocation.BANDIT}),
        ("switchback", {"switchback": Switchback(window_s=3600)}),
        ("sticky", {"sticky": True}),
        ("anonymous_unit_type", {"anonymous_unit_type": "device"}),
    ],
)
def test_nobody_needs_what_its_units_do_not_keep(field: str, moving: dict[str, Any]) -> None:
    needed = needing("b", **moving)
    assert moves_units(needed.design) == field
    found = faults(needing("a", "b"), needed)
    assert f"its {field} says otherwise" in found["prerequisites[0].experiment"]
    with pytest.raises(DomainError, match=rf"^{field} is 'b'.*\['a'\] need it"):
        require_offered(needed, project(needing("a", "b"), needing("b")))
    require_offered(needed, project(needing("b")))


def test_a_variant_that_others_need_stays() -> None:
    user = needing("a", prerequisites=(Prerequisite("b", ("green",)),))
    other = (Variant("control", 5000), Variant("blue", 5000))
    with pytest.raises(DomainError, match="'green', which experiment 'a' needs"):
        require_offered(needing("b", variants=other), project(user, needing("b")))
    require_offered(needing("b"), project(user))
    require_offered(needing("b", variants=other), project(replace(user, state=State.ARCHIVED)))


NAMES = "abcdefghijkl"
edges = st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(NAMES)), max_size=16)


@given(edges)
def test_a_project_that_grows_by_what_is_taken_never_has_a_circle_or_a_long_chain(
    wanted: list[tuple[str, str]],
) -> None:
    """Each edge is asked for in turn; what is taken is held against a walk of its own."""
    taken = {name: needing(name) for name in NAMES}
    for user, needed in wanted:
        before = [found.experiment_id for found in taken[user].design.prerequisites]
        changed = needing(user, *dict.fromkeys([*before, needed]))
        edges_then = {**_edges(taken), user: {*before, needed}}
        if _longest_way(edges_then) <= 8:
            require_prerequisites(changed, taken)
            taken[user] = changed
        else:
            faults(changed, *taken.values())


def _edges(found: dict[str, Experiment]) -> dict[str, set[str]]:
    return {
        key: {needed.experiment_id for needed in one.design.prerequisites}
        for key, one in found.items()
    }


def _longest_way(edges: dict[str, set[str]]) -> int:
    """How many steps the longest way has; as many as there are names when it is a circle."""
    reached, steps = set(edges), 0
    while reached and steps < len(edges):
        reached = {after for name in reached for after in edges[name]}
        steps += bool(reached)
    return steps
