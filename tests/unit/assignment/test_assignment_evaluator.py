"""Each rule of the evaluator by itself, with its words."""

import json

import pytest
from google.protobuf import json_format
from touchstone.assignment.v1 import ruleset_pb2
from touchstone_assignment.bucketing import HashVersion, bucketer, encode_unit
from touchstone_assignment.decision import KILLED, Reason
from touchstone_assignment.subject import Subject

from tests.unit.assignment import ruling

UNITS = [Subject({"user": f"user-{number}"}) for number in range(2000)]
USER = Subject({"user": "u1"})


def test_a_holdout_keeps_out_the_units_below_its_share() -> None:
    evaluator = ruling.evaluator(ruling.experiment(), holdouts=[ruling.holdout(share=1000)])
    bucket = bucketer(HashVersion.FLAGD_V2, "holdout/quiet", 10_000)
    for unit in UNITS:
        found = evaluator.decide("button", unit)
        held = bucket(unit.unit("user") or b"") < 1000
        assert (found.reason is Reason.HOLDOUT) is held
        assert found.because_of == ("quiet" if held else "")
        assert evaluator.held_out(unit) == (("quiet",) if held else ())


def test_a_holdout_covers_what_it_names_or_all_of_its_unit_type() -> None:
    evaluator = ruling.evaluator(
        ruling.experiment("named"),
        ruling.experiment("layered", layer="other"),
        ruling.experiment("free", layer="third"),
        layers=[ruling.layer(), ruling.layer("other"), ruling.layer("third")],
        holdouts=[
            ruling.holdout("a", experiments=["named"], layers=["other"]),
            ruling.holdout("z", unit_type="device"),
        ],
    )
    subject = Subject({"user": "u1", "device": "d1"})
    found = {key: evaluator.decide(key, subject) for key in ("named", "layered", "free")}
    assert [decision.reason for decision in found.values()] == [
        Reason.HOLDOUT,
        Reason.HOLDOUT,
        Reason.SPLIT,
    ]
    assert evaluator.held_out(subject) == ("a", "z")
    assert evaluator.held_out(USER) == ("a",)
    assert evaluator.explain("named", subject).detail == "holdout 'a' keeps the unit out"


def test_the_first_of_several_holdouts_is_named() -> None:
    holdouts = [ruling.holdout("b"), ruling.holdout("a")]
    evaluator = ruling.evaluator(ruling.experiment(), holdouts=holdouts)
    assert evaluator.decide("button", USER).because_of == "a"


def test_a_prerequisite_asks_for_a_variant_of_another_experiment() -> None:
    needing = ruling.experiment("then", layer="other")
    needing.prerequisites.add(experiment="button", variants=["green"])
    evaluator = ruling.evaluator(
        needing, ruling.experiment(), layers=[ruling.layer(), ruling.layer("other")]
    )
    seen = set()
    for unit in UNITS[:100]:
        first, then = evaluator.decide("button", unit), evaluator.decide("then", unit)
        seen.add(first.variant)
        assert (then.reason is Reason.SPLIT) is (first.variant == "green")
        if first.variant == "control":
            assert (then.reason, then.because_of) == (Reason.PREREQUISITE, "button")
            detail = evaluator.explain("then", unit).detail
            assert detail == (
                "the unit needs one of ['green'] in experiment 'button' and did not get it"
            )
    assert seen == {"control", "green"}


def test_a_prerequisite_may_ask_for_any_variant_and_for_an_experiment_that_is_gone() -> None:
    needing = ruling.experiment("then", layer="other")
    needing.prerequisites.add(experiment="button")
    layers = [ruling.layer(), ruling.layer("other")]
    half = ruling.experiment(slots=ruling.slots((0, 5000)))
    evaluator = ruling.evaluator(half, needing, layers=layers)
    for unit in UNITS[:100]:
        enrolled = evaluator.decide("button", unit).variant is not None
        assert (evaluator.decide("then", unit).variant is not None) is enrolled
    alone = ruling.evaluator(needing, layers=layers)
    assert alone.decide("then", USER).because_of == "button"
    assert "which is none of the project" in alone.explain("then", USER).detail


def test_prerequisites_that_many_need_are_decided_once_for_a_subject() -> None:
    """Eight levels of eight that all need all of the next would be 8**8 decisions."""
    rules, layers = [], []
    for level in range(12):
        for number in range(8):
            key = f"e{level}-{number}"
            rule = ruling.experiment(key, layer=key)
            for other in range(8 if level else 0):
                rule.prerequisites.add(experiment=f"e{level - 1}-{other}")
            rules.append(rule)
            layers.append(ruling.layer(key))
    evaluator = ruling.evaluator(*rules, layers=layers)
    assert evaluator.decide("e11-0", USER).reason is Reason.SPLIT


@pytest.mark.parametrize("length", [1, 2, 5])
def test_a_circle_of_prerequisites_is_refused_by_name(length: int) -> None:
    rules = []
    for number in range(length):
        rule = ruling.experiment(f"e{number}", layer="", serving=ruleset_pb2.SERVING_NOT_RUNNING)
        rule.prerequisites.add(experiment=f"e{(number + 1) % length}")
        rules.append(rule)
    circle = " -> ".join([*(f"e{number}" for number in range(length)), "e0"])
    with pytest.raises(ValueError, match=f"experiments need one another in a circle: {circle}"):
        ruling.evaluator(*rules)


def test_prerequisites_may_not_go_deeper_than_decisions_can_call() -> None:
    rules = []
    for number in range(65):
        rule = ruling.experiment(f"e{number:02}", layer="", slots=[], serving=2)
        if number:
            rule.prerequisites.add(experiment=f"e{number - 1:02}")
        rules.append(rule)
    ruling.evaluator(*rules[:64])
    with pytest.raises(ValueError, match=r"65 deep at 'e64'; at most 64"):
        ruling.evaluator(*rules)


def test_targeting_reads_attributes_and_audiences() -> None:
    rule = ruling.experiment()
    rule.targeting.audience = "germans"
    audience = ruleset_pb2.AudienceRule(audience="germans", condition=ruling.country("DE"))
    evaluator = ruling.evaluator(rule, audiences=[audience])
    german = Subject({"user": "u1"}, {"country": "DE"})
    assert evaluator.decide("button", german).reason is Reason.SPLIT
    assert evaluator.decide("button", USER).reason is Reason.NOT_TARGETED
    assert evaluator.member("germans", german)
    assert not evaluator.member("germans", USER)
    assert not evaluator.member("nobody", german)
    assert "not one that the experiment is for" in evaluator.explain("button", USER).detail


def test_an_audience_that_is_missing_is_named() -> None:
    rule = ruling.experiment()
    rule.targeting.audience = "gone"
    with pytest.raises(ValueError, match="experiment 'button': audience 'gone' is not there"):
        ruling.evaluator(rule)


def test_a_layer_in_a_domain_cuts_only_the_units_of_the_domains_slots() -> None:
    evaluator = ruling.evaluator(
        ruling.experiment("inner", layer="deepest"),
        ruling.experiment("beside", slots=ruling.slots((3000, 10_000))),
        layers=[
            ruling.layer(),
            ruling.layer("deep", domain="third"),
            ruling.layer("deepest", domain="half"),
        ],
        domains=[
            ruleset_pb2.DomainRule(domain="third", layer="checkout", slots=ruling.slots((0, 3000))),
            ruleset_pb2.DomainRule(domain="half", layer="deep", slots=ruling.slots((5000, 10_000))),
        ],
    )
    outer = bucketer(HashVersion.FLAGD_V2, "layer/checkout", 10_000)
    inner = bucketer(HashVersion.FLAGD_V2, "layer/deep", 10_000)
    seen = set()
    for unit in UNITS:
        key = unit.unit("user") or b""
        belongs = outer(key) < 3000 and inner(key) >= 5000
        found = evaluator.decide("inner", unit)
        assert found.reason is (Reason.SPLIT if belongs else Reason.NOT_IN_DOMAIN)
        assert not (belongs and evaluator.decide("beside", unit).variant)
        seen.add(evaluator.explain("beside", unit).detail.partition("belongs to ")[2][:14])
    assert seen == {"the experiment", "domain 'third'"}
    outside = next(u for u in UNITS if evaluator.decide("inner", u).variant is None)
    assert "not one of domain 'half'" in evaluator.explain("inner", outside).detail


def test_layers_that_hold_one_another_are_refused() -> None:
    layers = [ruling.layer("a", domain="in-b"), ruling.layer("b", domain="in-a")]
    domains = [
        ruleset_pb2.DomainRule(domain="in-a", layer="a"),
        ruleset_pb2.DomainRule(domain="in-b", layer="b"),
    ]
    with pytest.raises(ValueError, match="layers need one another in a circle: a -> b -> a"):
        ruling.evaluator(layers=layers, domains=domains)


def test_slots_that_two_hold_are_refused() -> None:
    with pytest.raises(ValueError, match=r"both hold slot 4000 of layer 'checkout'"):
        ruling.evaluator(
            ruling.experiment("a", slots=ruling.slots((0, 5000))),
            ruling.experiment("b", slots=ruling.slots((4000, 6000))),
        )


def test_unit_types_of_experiment_and_layer_must_be_the_same() -> None:
    with pytest.raises(ValueError, match="units of type 'device', its layer about 'user'"):
        ruling.evaluator(ruling.experiment(unit_type="device"))


def test_weights_must_fill_the_split() -> None:
    with pytest.raises(ValueError, match="sum to 9000; allowed are none below 0 that sum to 10000"):
        ruling.evaluator(ruling.experiment(variants=ruling.variants(("a", 4000), ("b", 5000))))


def test_a_forced_variant_comes_with_its_value_and_counts_when_nothing_runs() -> None:
    rule = ruling.experiment(serving=ruleset_pb2.SERVING_NOT_RUNNING)
    rule.forced.add(unit_type="device", unit_id="d1", variant="control")
    rule.forced.add(unit_type="user", unit_id="u1", variant="green")
    rule.forced.add(unit_type="user", unit_id="u2")
    evaluator = ruling.evaluator(rule)

    def found(**ids: str) -> tuple[str | None, Reason, object]:
        decision = evaluator.decide("button", Subject(ids))
        return decision.variant, decision.reason, decision.value

    assert found(device="d1") == ("control", Reason.FORCED, "control")
    # The experiment's own unit type before any other.
    assert found(device="d1", user="u1") == ("green", Reason.FORCED, "green")
    assert found(user="u2") == (None, Reason.FORCED, None)
    assert found(user="u3") == (None, Reason.NOT_RUNNING, None)
    detail = evaluator.explain("button", Subject({"device": "d1"})).detail
    assert detail == "variant 'control' is forced for the unit"
    assert evaluator.explain("button", Subject({"user": "u2"})).detail.startswith("no variant")


def test_a_variant_that_was_given_up_is_forced_all_the_same() -> None:
    rule = ruling.experiment()
    for variant in rule.variants:
        variant.dropped = True
    rule.forced.add(unit_type="user", unit_id="u1", variant="green")
    evaluator = ruling.evaluator(rule)
    forced = evaluator.decide("button", Subject({"user": "u1"}))
    assert (forced.variant, forced.reason, forced.value) == ("green", Reason.FORCED, "green")
    other = evaluator.decide("button", Subject({"user": "u2"}))
    assert (other.variant, other.reason) == (None, Reason.VARIANT_DROPPED)


def test_only_variants_of_the_experiment_can_be_forced() -> None:
    rule = ruling.experiment()
    rule.forced.add(unit_type="user", unit_id="u1", variant="blue")
    with pytest.raises(ValueError, match="'blue' is forced, which is no variant"):
        ruling.evaluator(rule)


def test_a_killed_experiment_says_so_to_everybody() -> None:
    evaluator = ruling.evaluator(ruling.experiment(serving=ruleset_pb2.SERVING_KILLED))
    assert {evaluator.decide("button", unit) for unit in UNITS[:50]} == {KILLED}
    assert evaluator.explain("button", USER).detail == "the kill switch of the experiment is on"
    assert not evaluator.experiments["button"].serves


def test_a_dropped_variant_gives_nothing_and_is_named_by_its_bucket() -> None:
    halves = ruling.variants(*ruling.HALVES, dropped=["green"])
    evaluator = ruling.evaluator(ruling.experiment(variants=halves))
    found = {evaluator.decide("button", unit).reason for unit in UNITS[:50]}
    assert found == {Reason.SPLIT, Reason.VARIANT_DROPPED}
    unit = next(u for u in UNITS if evaluator.decide("button", u).variant is None)
    trace = evaluator.explain("button", unit)
    assert trace.split_bucket is not None
    assert trace.split_bucket >= 5000
    assert trace.detail.endswith("to a variant that was given up")


def test_a_switchback_gives_windows_and_regions_a_variant_as_a_whole() -> None:
    rule = ruling.experiment()
    rule.switchback.window_s, rule.switchback.washout_s = 3600, 600
    rule.switchback.region_attribute = "region"
    evaluator = ruling.evaluator(rule)
    split = bucketer(HashVersion.FLAGD_V2, "split/button", 10_000)
    seen = set()
    for region in ("nord", "süd"):
        for window in range(50):
            key = encode_unit(f"{region}/{window}").encode()
            expected = "control" if split(key) < 5000 else "green"
            for user in ("u1", "u2"):
                for second in (600, 1234.5, 3599.9):
                    now_s = window * 3600 + second
                    subject = Subject({"user": user}, {"region": region}, now_s)
                    assert evaluator.decide("button", subject).variant == expected
            seen.add(expected)
    assert seen == {"control", "green"}


def test_a_switchback_washes_out_and_needs_its_region() -> None:
    rule = ruling.experiment()
    rule.switchback.window_s, rule.switchback.washout_s = 3600, 600
    rule.switchback.region_attribute = "region"
    evaluator = ruling.evaluator(rule)

    def at(now_s: float, **attributes: object) -> Subject:
        return Subject({"user": "u1"}, attributes, now_s)

    assert evaluator.decide("button", at(7200, region="x")).reason is Reason.WASHOUT
    assert evaluator.decide("button", at(7799.9, region="x")).reason is Reason.WASHOUT
    assert evaluator.decide("button", at(7800, region="x")).reason is Reason.SPLIT
    for missing in (at(7800), at(7800, region=""), at(7800, region=7)):
        assert evaluator.decide("button", missing).reason is Reason.MISSING_REGION
    assert "the first 600 s of a window" in evaluator.explain("button", at(0, region="x")).detail
    assert "'region' names no region" in evaluator.explain("button", at(0)).detail
    assert "the window is 'x/2'" in evaluator.explain("button", at(7800, region="x")).detail


def test_a_switchback_without_a_region_switches_everybody_at_once() -> None:
    rule = ruling.experiment()
    rule.switchback.window_s = 60
    evaluator = ruling.evaluator(rule)
    split = bucketer(HashVersion.FLAGD_V2, "split/button", 10_000)
    for window in range(20):
        expected = "control" if split(f"/{window}".encode()) < 5000 else "green"
        subject = Subject({"user": "u1"}, {"region": "ignored"}, window * 60.0)
        assert evaluator.decide("button", subject).variant == expected


def test_a_bandit_says_how_probable_its_variant_was() -> None:
    weights = (("control", 1000), ("a", 0), ("b", 9000))
    evaluator = ruling.evaluator(ruling.experiment(variants=ruling.variants(*weights), bandit=True))
    found = {evaluator.decide("button", unit) for unit in UNITS}
    assert {(decision.variant, decision.propensity) for decision in found} == {
        ("control", 0.1),
        ("b", 0.9),
    }
    fixed = ruling.evaluator(ruling.experiment(variants=ruling.variants(*weights)))
    assert {fixed.decide("button", unit).propensity for unit in UNITS[:20]} == {0.0}


@pytest.mark.parametrize(
    ("value_type", "sent", "value"),
    [
        (2, True, True),
        (3, "x", "x"),
        (4, 7, 7),
        (4, 2**53 - 1, 2**53 - 1),
        (5, 7, 7.0),
        (5, 0.5, 0.5),
        (6, {"a": [1, None, {"b": False}]}, {"a": [1, None, {"b": False}]}),
    ],
)
def test_values_come_in_their_type(value_type: int, sent: object, value: object) -> None:
    rule = ruling.experiment(value_type=value_type)
    for variant in rule.variants:
        json_format.Parse(json.dumps(sent), variant.value)
    found = ruling.evaluator(rule).decide("button", USER).value
    assert (found, type(found)) == (value, type(value))


def test_metadata_says_where_a_flag_comes_from() -> None:
    evaluator = ruling.evaluator(ruling.experiment(hash_version=ruling.FLAGD_V3))
    assert evaluator.experiments["button"].metadata == {
        "flagSetId": "acme",
        "experiment": "button",
        "layer": "checkout",
        "configVersion": 3,
        "hashVersion": "flagd-v3",
    }


@pytest.mark.parametrize("unit_id", ["", "\ud800"])
def test_an_id_that_cannot_be_a_key_is_an_error(unit_id: str) -> None:
    evaluator = ruling.evaluator(ruling.experiment())
    with pytest.raises(ValueError, match="unit id"):
        evaluator.decide("button", Subject({"user": unit_id}))
