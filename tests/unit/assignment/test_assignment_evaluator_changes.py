"""What did not change is taken over from the last evaluator, and decides as if made anew."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from touchstone.assignment.v1 import ruleset_pb2
from touchstone_assignment.compile import compile_ruleset
from touchstone_assignment.compiled import Evaluator
from touchstone_assignment.conditions import IdSet
from touchstone_assignment.subject import Subject

from tests.unit.assignment import ruling


def german(key: str) -> ruleset_pb2.AudienceRule:
    return ruleset_pb2.AudienceRule(audience=key, condition=ruling.country("DE"))


def asking(key: str) -> ruleset_pb2.AudienceRule:
    rule = ruleset_pb2.AudienceRule(audience=f"{key}-too")
    rule.condition.any.conditions.add().negated.audience = key
    return rule


def rules() -> ruleset_pb2.Ruleset:
    """`alone` depends on nothing that the others depend on."""
    targeted = ruling.experiment("targeted", layer="second")
    targeted.targeting.all.conditions.add().audience = "germans-too"
    needing = ruling.experiment("needing", layer="third")
    needing.prerequisites.add(experiment="targeted")
    held = ruling.experiment("held", layer="inner")
    return ruling.ruleset(
        ruling.experiment("alone"),
        targeted,
        needing,
        held,
        layers=[
            ruling.layer(),
            ruling.layer("second"),
            ruling.layer("third"),
            ruling.layer("fourth"),
            ruling.layer("inner", domain="part"),
        ],
        domains=[
            ruleset_pb2.DomainRule(domain="part", layer="fourth", slots=ruling.slots((0, 5000)))
        ],
        holdouts=[ruling.holdout(share=500, layers=["inner"])],
        audiences=[german("germans"), asking("germans")],
    )


def compiled(rules_: ruleset_pb2.Ruleset, previous: Evaluator | None = None) -> Evaluator:
    return compile_ruleset(rules_, ruling.no_lists, previous)


def _experiment(rules_: ruleset_pb2.Ruleset, key: str) -> ruleset_pb2.ExperimentRule:
    return next(rule for rule in rules_.experiments if rule.experiment == key)


def stop_targeted(changed: ruleset_pb2.Ruleset) -> None:
    _experiment(changed, "targeted").serving = ruleset_pb2.SERVING_NOT_RUNNING


def change_audience(changed: ruleset_pb2.Ruleset) -> None:
    changed.audiences[0].condition.compare.values[0].string_value = "FR"


def grow_domain(changed: ruleset_pb2.Ruleset) -> None:
    changed.domains[0].slots[0].end = 6000


def end_holdout(changed: ruleset_pb2.Ruleset) -> None:
    del changed.holdouts[:]


def change_salt(changed: ruleset_pb2.Ruleset) -> None:
    changed.layers[0].salt = "layer/other"


def next_version(changed: ruleset_pb2.Ruleset) -> None:
    changed.config_version += 1


CHANGES: list[tuple[Any, set[str]]] = [
    (next_version, set()),
    (stop_targeted, {"targeted", "needing"}),
    (change_audience, {"targeted", "needing"}),
    (grow_domain, {"held"}),
    (end_holdout, {"held"}),
    (change_salt, {"alone"}),
]


@pytest.mark.parametrize(("change", "affected"), CHANGES, ids=[c[0].__name__ for c in CHANGES])
def test_only_what_a_change_reaches_is_compiled_again(change: Any, affected: set[str]) -> None:
    first = compiled(rules())
    changed = rules()
    change(changed)
    second = compiled(changed, first)
    anew = {
        key for key in second.experiments if second.experiments[key] is not first.experiments[key]
    }
    assert anew == affected
    assert second.config_version == changed.config_version


@settings(max_examples=25, deadline=None)
@given(steps=st.lists(st.sampled_from([change for change, _ in CHANGES]), max_size=4))
def test_taken_over_or_made_anew_decisions_are_the_same(steps: list[Any]) -> None:
    current, evaluator = rules(), compiled(rules())
    for step in steps:
        if step is not end_holdout or current.holdouts:
            step(current)
        evaluator = compiled(current, evaluator)
    anew = compiled(current)
    for number in range(60):
        attributes = {"country": "DE"} if number % 2 else {"country": "FR"}
        for key in anew.experiments:
            subject = Subject({"user": f"u{number}"}, attributes)
            assert evaluator.decide(key, subject) == anew.decide(key, subject)
            assert evaluator.explain(key, subject) == anew.explain(key, subject)


def test_nothing_is_taken_over_from_another_project() -> None:
    first = compiled(rules())
    other = rules()
    other.project = "other"
    second = compiled(other, first)
    assert second.experiments["alone"].metadata["flagSetId"] == "other"


def test_what_was_removed_is_gone() -> None:
    changed = rules()
    del changed.experiments[2:]
    second = compiled(changed, compiled(rules()))
    assert set(second.experiments) == {"alone", "targeted"}


def test_a_list_is_asked_for_again_only_when_its_content_changed() -> None:
    asked: list[str] = []

    def id_sets(digest: str) -> IdSet:
        asked.append(digest)
        return IdSet.of_ids([f"{digest}-user"])

    rule = ruling.experiment()
    rule.targeting.audience = "listed"
    listed = ruleset_pb2.AudienceRule(audience="listed", unit_type="user", digest="one", count=1)
    current = ruling.ruleset(rule, audiences=[listed])
    first = compile_ruleset(current, id_sets)
    current.config_version += 1
    second = compile_ruleset(current, id_sets, first)
    assert asked == ["one"]
    current.audiences[0].digest = "two"
    third = compile_ruleset(current, id_sets, second)
    assert asked == ["one", "two"]
    assert second.decide("button", Subject({"user": "one-user"})).variant
    assert third.decide("button", Subject({"user": "two-user"})).variant
    assert not third.decide("button", Subject({"user": "one-user"})).variant


def test_a_list_that_is_not_at_hand_is_an_error_of_the_look_up() -> None:
    rule = ruling.experiment()
    rule.targeting.audience = "listed"
    listed = ruleset_pb2.AudienceRule(audience="listed", unit_type="user", digest="one", count=1)
    with pytest.raises(LookupError, match="one"):
        ruling.evaluator(rule, audiences=[listed])
    unneeded = ruling.evaluator(audiences=[listed])
    with pytest.raises(LookupError, match="one"):
        unneeded.member("listed", Subject({"user": "u1"}))
