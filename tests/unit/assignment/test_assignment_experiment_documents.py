"""What is stored comes back equal, and what earlier programs stored stays readable."""

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.assignment.adapters.documents import FORMAT, from_document, to_document
from services.assignment.domain.experiment import (
    Allocation,
    Experiment,
    Prerequisite,
    RampStage,
    Schedule,
    State,
    Switchback,
    ValueType,
    Variant,
)
from shared.errors import DomainError
from tests.unit.assignment.making import START, Make

# As the first release wrote it.
FIRST = (
    '{"config_version":1,"create_time":"2026-03-01T12:00:00+00:00","design":{"control":"control",'
    '"display_name":"Button","hash_version":"flagd-v2","hypothesis":"Green sells","layer":'
    '"checkout","metrics":[],"owner":"ada","salt":"split/button","source":"SLOTS","traffic_slots":10000,'
    '"unit_type":"user","variants":[{"display_name":"","key":"control","payload":null,"weight":5000}'
    ',{"display_name":"","key":"green","payload":null,"weight":5000}]},"experiment_id":"button",'
    '"format":1,"project":"acme","start_time":null,"state":"DRAFT","stop_time":null,'
    '"update_time":"2026-03-01T12:00:00+00:00"}'
)


def test_what_the_first_release_wrote_is_read_and_written_as_it_was(make: Make) -> None:
    assert from_document(FIRST) == make.experiment()
    assert to_document(make.experiment()) == FIRST


def test_a_document_without_metrics_is_read(make: Make) -> None:
    older = json.loads(FIRST)
    del older["design"]["metrics"]
    assert from_document(json.dumps(older)) == make.experiment()


USED = [
    {"value_type": ValueType.OBJECT},
    {"targeting": "{}"},
    {"prerequisites": (Prerequisite("a"),)},
    {"sticky": True},
    {"anonymous_unit_type": "device"},
    {"schedule": Schedule(stop_time=START)},
    {"switchback": Switchback(60)},
    {"allocation": Allocation.BANDIT},
    {"observed_unit_type": "customer"},
    {"variants": (Variant("control", 5000), Variant("green", 5000, dropped=True))},
    {"variants": (Variant("control", 5000), Variant("green", 5000, value="1"))},
]


@pytest.mark.parametrize("used", USED, ids=lambda used: next(iter(used)))
def test_what_an_older_program_would_decide_wrongly_it_does_not_read(
    make: Make, used: dict[str, Any]
) -> None:
    found = make.experiment(**used)
    assert json.loads(to_document(found))["format"] == 2
    assert from_document(to_document(found)) == found


def test_a_killed_experiment_is_not_read_by_a_program_that_would_let_it_go_on(make: Make) -> None:
    killed = replace(make.experiment(State.RUNNING), killed=True, kill_reason="fire")
    assert json.loads(to_document(killed))["format"] == 2
    assert from_document(to_document(killed)) == killed


def test_a_newer_document_is_refused_by_name(make: Make) -> None:
    newer = json.loads(to_document(make.experiment())) | {"format": FORMAT + 1}
    with pytest.raises(DomainError, match="'button' is stored in format 3") as caught:
        from_document(json.dumps(newer))
    assert caught.value.reason == "NEWER_VERSION"


keys = st.sampled_from(["a", "b-1", "c"])
times = st.integers(0, 10**9).map(lambda s: START + timedelta(microseconds=s))
texts = st.text(max_size=20)


@st.composite
def experiments(draw: st.DrawFn) -> Experiment:
    variants = tuple(
        Variant(
            key,
            weight,
            draw(texts),
            draw(st.none() | st.just('{"x":"ü"}')),
            draw(st.none() | st.sampled_from(["0", '"é"', "false", "null", "1.5"])),
            draw(st.booleans()),
        )
        for key, weight in (("control", 2500), ("green", 7500))
    )
    stages = st.lists(st.builds(RampStage, times, st.integers(1, 10_000)), max_size=3).map(tuple)
    needed = st.builds(Prerequisite, keys, st.lists(keys, max_size=2).map(tuple))
    design = Make().design(
        variants=variants,
        value_type=draw(st.sampled_from(ValueType)),
        targeting=draw(st.none() | st.just('{"audience":"ä"}')),
        prerequisites=draw(st.lists(needed, max_size=3).map(tuple)),
        sticky=draw(st.booleans()),
        anonymous_unit_type=draw(st.sampled_from(["", "device"])),
        schedule=draw(st.builds(Schedule, st.none() | times, st.none() | times, stages)),
        switchback=draw(st.none() | st.builds(Switchback, st.integers(60), st.integers(0), keys)),
        allocation=draw(st.sampled_from(Allocation)),
        observed_unit_type=draw(st.sampled_from(["", "customer"])),
    )
    killed = draw(st.booleans())
    return replace(
        Make().experiment(draw(st.sampled_from(State))),
        design=design,
        start_time=draw(st.none() | times),
        killed=killed,
        kill_reason=draw(texts) if killed else "",
    )


@given(experiments())
def test_every_experiment_comes_back_equal(found: Experiment) -> None:
    text = to_document(found)
    assert from_document(text) == found
    assert to_document(from_document(text)) == text
