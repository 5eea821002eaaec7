"""The hook and the tracking provider, through a real OpenFeature client."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from openfeature import api
from openfeature.evaluation_context import EvaluationContext
from openfeature.event import ProviderEvent
from openfeature.flag_evaluation import FlagResolutionDetails, Reason
from openfeature.provider.in_memory_provider import InMemoryFlag, InMemoryProvider
from openfeature.track import TrackingEventDetails
from touchstone.events.v1 import event_pb2
from touchstone_events import (
    EventSender,
    ExposureHook,
    ExposureRule,
    Service,
    Settings,
    with_tracking,
)
from touchstone_events.contract import contract
from touchstone_events.events import NOTHING_MORE, Stamp, encode
from touchstone_events.hook import Recent, config_version

from tests.client.rig import Clock, eventually, stored

DOMAIN = "client-tests"
MARY = EvaluationContext("mary")


class Taken(EventSender):
    """A sender that only takes: what it took, read by the service's own stubs."""

    def __init__(self, room=1 << 30):
        super().__init__(Service("127.0.0.1:1", "key"))
        self.events: list[Any] = []
        self.room = room

    def track(self, unit, payload, about=NOTHING_MORE):
        if len(self.events) >= self.room:
            return False
        stamp = Stamp("id", 1_790_000_000 * 10**9, "")
        data = encode(contract(), unit, payload, about, stamp)
        start = 2 if data[1] < 0x80 else 3
        self.events.append(event_pb2.Event.FromString(data[start:]))
        return True


def split(variant, reason=Reason.SPLIT, **metadata):
    """A flag whose provider chose a variant for the unit."""

    def evaluate(flag, context):
        return FlagResolutionDetails(
            flag.variants[variant], reason=reason, variant=variant, flag_metadata=metadata
        )

    return InMemoryFlag(variant, {"treatment": True, "control": False}, context_evaluator=evaluate)


@pytest.fixture
def sender():
    return Taken()


@pytest.fixture
def client():
    yield api.get_client(DOMAIN)
    api.clear_providers()


def provide(**flags):
    named = {name.replace("_", "-"): flag for name, flag in flags.items()}
    api.set_provider_and_wait(InMemoryProvider(named), DOMAIN)


def test_a_variant_that_was_chosen_is_an_exposure(client, sender):
    provide(new_checkout=split("treatment", configVersion=42))
    client.add_hooks([ExposureHook(sender, ExposureRule(provider_version="1.2"))])
    assert client.get_boolean_value("new-checkout", False, MARY) is True
    (event,) = sender.events
    assert (event.unit.type, event.unit.id) == ("user", "mary")
    assert event.exposure == event_pb2.Exposure(
        experiment="new-checkout",
        variant="treatment",
        config_version=42,
        reason="SPLIT",
        evaluator="In-Memory Provider/1.2",
    )


@pytest.mark.parametrize(
    ("reason", "exposures"), [(each, each in ("SPLIT", "TARGETING_MATCH")) for each in Reason]
)
def test_only_reasons_of_a_choice_count(client, sender, reason, exposures):
    provide(new_checkout=split("control", reason=reason))
    client.add_hooks([ExposureHook(sender)])
    client.get_boolean_value("new-checkout", True, MARY)
    assert len(sender.events) == exposures


def test_a_rule_may_name_other_reasons_units_and_experiments(client, sender):
    provide(Checkout=split("control", reason=Reason.CACHED), other=split("control"))
    rule = ExposureRule(
        unit_type="device",
        reasons=frozenset({"CACHED"}),
        experiment_of={"Checkout": "checkout-2026"}.get,
    )
    client.add_hooks([ExposureHook(sender, rule)])
    client.get_boolean_value("Checkout", True, MARY)
    client.get_boolean_value("other", True, MARY)
    (event,) = sender.events
    assert (event.unit.type, event.exposure.experiment) == ("device", "checkout-2026")


@pytest.mark.parametrize(
    ("flag", "context"),
    [
        ("no-such-flag", MARY),
        ("new-checkout", EvaluationContext()),
        ("Not_An_Experiment", MARY),
        ("without-variant", MARY),
    ],
)
def test_what_is_no_exposure_is_not_sent(client, sender, flag, context):
    def no_variant(flag, context):
        return FlagResolutionDetails(True, reason=Reason.SPLIT)

    provide(
        new_checkout=split("treatment"),
        without_variant=InMemoryFlag("a", {"a": True}, context_evaluator=no_variant),
    )
    flags = {"Not_An_Experiment": split("treatment")}
    if flag in flags:
        api.set_provider_and_wait(InMemoryProvider(flags), DOMAIN)
    client.add_hooks([ExposureHook(sender)])
    client.get_boolean_value(flag, True, context)
    assert sender.events == []


def test_a_hot_path_sends_one_exposure_a_period(client, sender):
    clock = Clock()
    provide(new_checkout=split("treatment"), other=split("treatment"))
    client.add_hooks([ExposureHook(sender, ExposureRule(repeat_s=60.0), system=clock)])
    for _ in range(50):
        client.get_boolean_value("new-checkout", False, MARY)
    assert len(sender.events) == 1
    client.get_boolean_value("new-checkout", False, EvaluationContext("john"))
    client.get_boolean_value("other", False, MARY)
    provide(new_checkout=split("control"))
    client.get_boolean_value("new-checkout", False, MARY)
    assert len(sender.events) == 4
    clock.now_s += 61
    client.get_boolean_value("new-checkout", False, MARY)
    assert len(sender.events) == 5


def test_an_exposure_that_was_not_taken_is_not_remembered(client):
    sender = Taken(room=0)
    provide(new_checkout=split("treatment"))
    client.add_hooks([ExposureHook(sender)])
    client.get_boolean_value("new-checkout", False, MARY)
    sender.room = 1
    client.get_boolean_value("new-checkout", False, MARY)
    assert len(sender.events) == 1


def test_what_is_remembered_is_bounded_by_what_was_used_last():
    recent = Recent(2, 100.0)
    a, b, c = ("a", "", ""), ("b", "", ""), ("c", "", "")
    assert [recent.add(key, 0.0) for key in (a, b, a, c)] == [True, True, False, True]
    assert [recent.add(key, 1.0) for key in (a, c, b)] == [False, False, True]


def test_a_hook_that_fails_leaves_the_evaluation_as_it_is(client, sender, caplog):
    def broken(flag_key):
        raise KeyError(flag_key)

    provide(new_checkout=split("treatment"))
    client.add_hooks([ExposureHook(sender, ExposureRule(experiment_of=broken))])
    for _ in range(3):
        assert client.get_boolean_value("new-checkout", False, MARY) is True
    assert sum("not made an exposure" in record.message for record in caplog.records) == 1


@pytest.mark.parametrize(
    ("value", "version"),
    [(7, 7), (7.0, 7), ("7", 7), (None, 0), (True, 0), (7.5, 0), (-1, 0), ("v7", 0), (1 << 63, 0)],
)
def test_the_configuration_version_is_a_whole_number_or_unknown(value, version):
    assert config_version(value) == version


def test_a_tracked_event_is_a_conversion_and_the_provider_hears_of_it(client, sender):
    inside = InMemoryProvider({"new-checkout": split("treatment")})
    api.set_provider_and_wait(with_tracking(inside, sender), DOMAIN)
    details = TrackingEventDetails(19.99, {"currency": "EUR", "items": 3})
    client.track("purchase", MARY, details)
    client.track("signup", MARY)
    client.track("anonymous", EvaluationContext())
    purchase, signup = sender.events
    assert purchase.conversion == event_pb2.Conversion(
        event_name="purchase", value=19.99, currency="EUR"
    )
    assert dict(purchase.properties) == {"items": 3}
    assert not signup.conversion.HasField("value")
    assert inside._tracking_events.keys() == {"purchase", "signup", "anonymous"}
    assert details.attributes == {"currency": "EUR", "items": 3}


def test_the_provider_inside_does_everything_else(client, sender):
    seen = []

    class Ready(InMemoryProvider):
        def shutdown(self):
            seen.append("shutdown")

    inside = Ready({"new-checkout": split("treatment")})
    provider = with_tracking(inside, sender)
    client.add_handler(ProviderEvent.PROVIDER_STALE, lambda _: seen.append("stale"))
    api.set_provider_and_wait(provider, DOMAIN)
    client.add_hooks([ExposureHook(sender)])
    assert client.get_boolean_value("new-checkout", False, MARY) is True
    assert len(sender.events) == 1
    inside._on_emit(inside, ProviderEvent.PROVIDER_STALE, _details())
    eventually(lambda: "stale" in seen, 5)
    api.clear_providers()
    assert "shutdown" in seen


def _details():
    from openfeature.event import ProviderEventDetails

    return ProviderEventDetails()


async def test_asynchronous_evaluations_count_too(client, sender):
    api.set_provider_and_wait(
        with_tracking(InMemoryProvider({"new-checkout": split("treatment")}), sender), DOMAIN
    )
    client.add_hooks([ExposureHook(sender)])
    assert await client.get_boolean_value_async("new-checkout", False, MARY) is True
    assert len(sender.events) == 1


def test_evaluations_and_conversions_reach_the_service(client, service, caplog):
    caplog.set_level(logging.INFO)
    service.start()
    with EventSender(Service(service.address, service.key), Settings(source="shop")) as sender:
        inside = InMemoryProvider({"new-checkout": split("treatment", configVersion=3)})
        api.set_provider_and_wait(with_tracking(inside, sender), DOMAIN)
        client.add_hooks([ExposureHook(sender)])
        for n in range(40):
            context = EvaluationContext(f"user-{n % 20}")
            client.get_boolean_value("new-checkout", False, context)
            client.track("purchase", context, TrackingEventDetails(n, {"currency": "EUR"}))
        assert sender.flush(20)
        stats = sender.stats()
    assert (stats.sent, stats.rejected) == (60, 0)
    eventually(lambda: len(stored(service, "exposures")) == 20)
    eventually(lambda: len(stored(service)) == 40)
