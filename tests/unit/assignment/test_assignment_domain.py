"""Domains: they hold slots like an experiment, stand in one another, and end in order."""

from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from touchstone_assignment.decision import Reason
from touchstone_assignment.subject import Subject

from services.assignment.application.domains import release_domain, update_domain
from services.assignment.application.find_resource import Change, Which
from services.assignment.domain.domain import Domain
from services.assignment.domain.domain_rules import enclosing, layers_within
from services.assignment.domain.experiment import State
from services.assignment.domain.layer import Holder, Layer
from services.assignment.domain.limits import LIMITS
from services.assignment.domain.revision import Revision
from shared.errors import Code, DomainError
from tests.unit.assignment.making import Make
from tests.unit.assignment.storing import COOL_DOWN, START, Stored

MOBILE = Which("acme", "mobile")


def grow(stored: Stored, slots: int, domain_id: str = "mobile") -> Domain:
    command = Change(Which("acme", domain_id), {"traffic_slots": slots})
    return stored.change(lambda c: update_domain(command, c, stored.now))


def release(stored: Stored, domain_id: str = "mobile") -> Domain:
    which = Which("acme", domain_id)
    return stored.change(lambda c: release_domain(which, c, COOL_DOWN, stored.now))


def test_a_domain_takes_grows_and_gives_back_slots(stored: Stored) -> None:
    stored.layer("base", unit_type="device")
    domain = stored.domain("mobile", "base", 3000)
    assert (domain.unit_type, domain.config_version, domain.etag) == ("device", 2, "v2")
    assert grow(stored, 5000).traffic_slots == 5000
    base = stored.load().layers["base"]
    assert [(row.first, row.end, row.holder) for row in base.ledger] == [
        (0, 3000, Holder(domain_id="mobile")),
        (3000, 5000, Holder(domain_id="mobile")),
    ]
    assert release(stored).released
    rows = stored.change(lambda c: c.layers.all_now("acme"))["base"].ledger
    assert {row.reusable_time for row in rows} == {START + COOL_DOWN}
    assert stored.load().layers["base"].ledger == ()
    assert stored.load(as_of=3).domains["mobile"].traffic_slots == 5000
    assert not stored.load(as_of=3).domains["mobile"].released


def test_a_domain_and_an_experiment_never_share_a_slot(stored: Stored) -> None:
    stored.layer("base")
    stored.domain("mobile", "base", 6000)
    stored.running("button", layer="base", traffic_slots=4000)
    with pytest.raises(DomainError) as caught:
        grow(stored, 6001)
    assert (caught.value.code, caught.value.reason) == (Code.FAILED_PRECONDITION, "LAYER_FULL")
    assert "domain 'mobile' needs 1 more" in caught.value.message
    assert "held by domain 'mobile', experiment 'button'" in caught.value.message
    assert stored.load().domains["mobile"].traffic_slots == 6000


def test_a_domain_does_not_shrink(stored: Stored) -> None:
    stored.layer("base")
    stored.domain("mobile", "base", 6000)
    with pytest.raises(DomainError, match="lowering traffic_slots from 6000 to 5999") as caught:
        grow(stored, 5999)
    assert caught.value.reason == "WRONG_STATE"


@pytest.mark.parametrize("state", [State.RUNNING, State.PAUSED])
def test_a_domain_in_use_is_not_released_however_deep_the_user_is(
    stored: Stored, state: State
) -> None:
    stored.layer("base")
    stored.domain("mobile", "base")
    stored.layer("inner", domain="mobile")
    stored.domain("ios", "inner")
    stored.layer("innermost", domain="ios")
    stored.running("button", layer="innermost")
    if state is State.PAUSED:
        stored.move("button", State.PAUSED)
    with pytest.raises(DomainError, match=f"experiment button.*{state.lower()}") as caught:
        release(stored)
    assert (caught.value.code, caught.value.reason) == (Code.FAILED_PRECONDITION, "IN_USE")
    stored.move("button", State.STOPPED)
    assert release(stored).released


def test_what_a_released_domain_encloses_is_of_no_use_any_more(stored: Stored) -> None:
    stored.layer("base")
    stored.domain("mobile", "base")
    stored.layer("inner", domain="mobile")
    stored.domain("ios", "inner", 1000)
    stored.experiment("button", layer="inner")
    release(stored)
    attempts = [
        lambda: stored.layer("another", domain="mobile"),
        lambda: stored.layer("deeper", domain="ios"),
        lambda: stored.domain("android", "inner"),
        lambda: stored.experiment("price", layer="inner"),
        lambda: stored.move("button", State.RUNNING),
        lambda: grow(stored, 2000, "ios"),
        lambda: grow(stored, 9000),
        lambda: release(stored),
    ]
    for attempt in attempts:
        with pytest.raises(DomainError, match=r"domain mobile.*is released") as caught:
            attempt()
        assert (caught.value.code, caught.value.reason) == (Code.FAILED_PRECONDITION, "WRONG_STATE")


def test_domains_stand_in_one_another_to_the_limit(stored: Stored) -> None:
    stored.layer("l0")
    for depth in range(LIMITS.max_domain_depth):
        stored.domain(f"d{depth}", f"l{depth}")
        stored.layer(f"l{depth + 1}", domain=f"d{depth}")
    with pytest.raises(DomainError, match="is 9; at most 8") as caught:
        stored.domain("d8", "l8")
    assert (caught.value.code, caught.value.reason) == (Code.RESOURCE_EXHAUSTED, "LIMIT_EXCEEDED")
    stored.running("button", layer="l8")
    evaluator = stored.evaluator()
    reasons = [
        evaluator.decide("button", Subject({"user": f"u{number}"})).reason
        for number in range(20_000)
    ]
    # A half of a half, eight times: 78 of 20,000; by chance from 40 to 125.
    assert 40 < reasons.count(Reason.SPLIT) < 125
    assert set(reasons) == {Reason.SPLIT, Reason.NOT_IN_DOMAIN}


def test_a_layer_cuts_the_units_of_its_domain_only(stored: Stored) -> None:
    stored.layer("base")
    stored.domain("mobile", "base", 3000)
    stored.layer("inner", domain="mobile")
    stored.running("inside", layer="inner")
    stored.running("beside", layer="base", traffic_slots=7000)
    evaluator = stored.evaluator()
    for number in range(2000):
        subject = Subject({"user": f"u{number}"})
        reasons = {key: evaluator.decide(key, subject).reason for key in ("inside", "beside")}
        assert reasons in (
            {"inside": Reason.SPLIT, "beside": Reason.NOT_IN_SLOTS},
            {"inside": Reason.NOT_IN_DOMAIN, "beside": Reason.SPLIT},
        )


def test_a_layer_has_the_unit_type_of_its_domain(stored: Stored) -> None:
    stored.layer("base", unit_type="device")
    stored.domain("mobile", "base")
    assert stored.layer("inner", domain="mobile").unit_type == "device"
    assert stored.layer("same", domain="mobile", unit_type="device").unit_type == "device"
    with pytest.raises(DomainError, match="'user'; allowed: 'device'"):
        stored.layer("other", domain="mobile", unit_type="user")


@pytest.mark.parametrize("attempt", ["layer", "domain"])
def test_what_is_not_there_is_not_found(stored: Stored, attempt: str) -> None:
    attempts = {
        "layer": lambda: stored.layer("inner", domain="mobile"),
        "domain": lambda: stored.domain("mobile", "base"),
    }
    with pytest.raises(DomainError) as caught:
        attempts[attempt]()
    assert caught.value.code is Code.NOT_FOUND
    assert stored.load().config_version == 0


def test_a_stale_etag_changes_nothing(stored: Stored) -> None:
    stored.layer("base")
    stored.domain("mobile", "base", 100)
    grow(stored, 200)
    stale = Which("acme", "mobile", "v2")
    for work in (
        lambda c: update_domain(Change(stale, {"traffic_slots": 300}), c, START),
        lambda c: release_domain(stale, c, COOL_DOWN, START),
    ):
        with pytest.raises(DomainError) as caught:
            stored.change(work)
        assert (caught.value.code, caught.value.reason) == (Code.ABORTED, "STALE_ETAG")
    assert stored.load().config_version == 3


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 99)), max_size=25))
def test_no_circle_can_come_about(steps: list[tuple[bool, int]]) -> None:
    """Whatever is made in whatever order: each layer names a domain and each domain a layer that
    was there before, so every way outwards ends, and nothing is within itself.
    """
    layers: dict[str, Layer] = {}
    domains: dict[str, Domain] = {}
    for number, (cut, pick) in enumerate(steps):
        if layers and cut:
            parent = sorted(layers)[pick % len(layers)]
            key = f"d{number}"
            domains[key] = Domain("acme", key, 1, START, parent, 10, "user")
        else:
            around = ["", *sorted(domains)][pick % (len(domains) + 1)]
            layers[f"l{number}"] = replace(Make().layer(), layer_id=f"l{number}", domain=around)
    for layer in layers.values():
        outwards = list(enclosing(layer, domains.__getitem__, layers.__getitem__))
        ids = [domain.resource_id for domain in outwards]
        assert len(set(ids)) == len(ids)
        for domain in outwards:
            assert layer in layers_within(domain.resource_id, layers, domains)
    for key, domain in domains.items():
        assert layers[domain.layer] not in layers_within(key, layers, domains)


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["give", "take"]), st.sampled_from("abcd"), st.integers(1, 4000)),
        max_size=25,
    )
)
def test_every_slot_has_one_holder_at_most(steps: list[tuple[str, str, int]]) -> None:
    """Experiments a and b and domains c and d take and give back as chance will have it."""
    layer = Make().layer()
    for number, (verb, name, slots) in enumerate(steps):
        holder = Holder(experiment_id=name) if name in "ab" else Holder(domain_id=name)
        at = Revision(number + 2, START + timedelta(days=number))
        before = layer.held_by(holder)
        if verb == "take":
            layer = layer.take_back(holder, timedelta(days=3), at)
            assert layer.held_by(holder) == ()
            continue
        try:
            layer = layer.give(holder, slots, at)
        except DomainError as error:
            assert error.reason == "LAYER_FULL"  # noqa: PT017  it may be full or not
        assert layer.held_by(holder)[: len(before)] == before
        held = sorted(
            (row.first, row.end)
            for row in layer.ledger
            if row.release_time is None or row.rests_or_is_held(at.time)
        )
        assert all(end <= first for (_, end), (first, _) in pairwise(held))
