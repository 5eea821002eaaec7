"""Experiments and parameters as flags, apart from any door."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from google.protobuf import json_format, struct_pb2
from touchstone.assignment.v1 import experiment_pb2
from touchstone.assignment.v1 import ruleset_pb2 as pb
from touchstone_assignment.compile import compile_ruleset
from touchstone_assignment.compiled import Evaluator
from touchstone_assignment.decision import Decision, Reason
from touchstone_assignment.parameters import ParameterDecision
from touchstone_assignment.subject import Subject

from services.assignment.application.flag_context import UnfitIdsError, subject_of
from services.assignment.application.flag_errors import FlagError, FlagFault
from services.assignment.application.flag_set import FlagSet, FlagType, flag_set
from services.assignment.application.flags import (
    FlagReason,
    ResolvedFlag,
    resolve_flag,
    resolve_flags,
)
from shared.errors import Code


def value(found: Any) -> struct_pb2.Value:
    made = struct_pb2.Value()
    json_format.ParseDict(found, made)
    return made


def rule(key: str = "button", **fields: Any) -> pb.ExperimentRule:
    values = fields.pop("values", ("control", "green"))
    given: dict[str, Any] = {
        "experiment": key,
        "config_version": 3,
        "serving": pb.SERVING_RUNNING,
        "unit_type": "user",
        "layer": key,
        "slots": [pb.Slots(first=0, end=10_000)],
        "salt": f"split/{key}",
        "hash_version": experiment_pb2.HASH_VERSION_FLAGD_V3,
        "variants": [
            pb.VariantRule(key=name, weight=5000, value=value(found))
            for name, found in zip(("control", "green"), values, strict=True)
        ],
        "value_type": experiment_pb2.VALUE_TYPE_KEY,
        "control": "control",
    }
    return pb.ExperimentRule(**(given | fields))


def ruleset(*rules: pb.ExperimentRule, **fields: Any) -> pb.Ruleset:
    layers = [
        pb.LayerRule(
            layer=found.layer,
            unit_type=found.unit_type,
            salt=f"layer/{found.layer}",
            hash_version=experiment_pb2.HASH_VERSION_FLAGD_V3,
        )
        for found in rules
        if found.layer
    ]
    given: dict[str, Any] = {"layers": layers, "config_version": 9}
    return pb.Ruleset(format=1, project="demo", experiments=rules, **(given | fields))


@dataclass
class Rules:
    """The rules alone, and what a test puts in the place of decisions."""

    ruleset: pb.Ruleset
    flags: FlagSet
    evaluator: Evaluator
    instead: Decision | None = None

    @property
    def digest(self) -> str:
        return str(self.ruleset.config_version)

    async def decide(
        self, experiments: Sequence[str], subject: Subject, *, keep: bool = True
    ) -> Sequence[Decision]:
        return [self.instead or self.evaluator.decide(key, subject) for key in experiments]

    async def parameters(
        self, keys: Sequence[str], subject: Subject
    ) -> Mapping[str, ParameterDecision]:
        return self.evaluator.parameters(subject, keys)


def rules_of(found: pb.Ruleset, instead: Decision | None = None) -> Rules:
    def no_lists(digest: str) -> Any:
        raise LookupError(digest)

    return Rules(found, flag_set(found), compile_ruleset(found, no_lists), instead)


def resolve(
    rules: Rules, key: str = "button", wanted: FlagType | None = None, **context: Any
) -> ResolvedFlag:
    given = context or {"targetingKey": "u-1"}
    return asyncio.run(resolve_flag(key, given, rules, 0.0, wanted))


def fault(
    rules: Rules, key: str = "button", wanted: FlagType | None = None, **context: Any
) -> FlagError:
    with pytest.raises(FlagError) as caught:
        resolve(rules, key, wanted, **context)
    return caught.value


@pytest.mark.parametrize(
    ("decision", "variant", "reason"),
    [
        (Decision("green", Reason.SPLIT), "green", FlagReason.SPLIT),
        (Decision("green", Reason.FORCED), "green", FlagReason.TARGETING_MATCH),
        (Decision("green", Reason.STICKY), "green", FlagReason.TARGETING_MATCH),
        (Decision(None, Reason.FORCED), "default", FlagReason.DEFAULT),
        (Decision(None, Reason.KILLED), "default", FlagReason.DISABLED),
        (Decision(None, Reason.NOT_RUNNING), "default", FlagReason.DISABLED),
        *(
            (Decision(None, reason), "default", FlagReason.DEFAULT)
            for reason in (
                Reason.NOT_IN_SLOTS,
                Reason.HOLDOUT,
                Reason.PREREQUISITE,
                Reason.NOT_TARGETED,
                Reason.NOT_IN_DOMAIN,
                Reason.VARIANT_DROPPED,
                Reason.WASHOUT,
                Reason.MISSING_REGION,
            )
        ),
    ],
)
def test_every_decision_has_a_reason_and_a_value_and_is_never_static(decision, variant, reason):
    found = resolve(rules_of(ruleset(rule()), decision))
    assert (found.variant, found.reason) == (variant, reason)
    assert found.value == ("green" if variant == "green" else "control")
    assert found.metadata["decision"] == decision.reason
    assert "STATIC" not in list(FlagReason)


def test_every_reason_of_a_decision_is_answered():
    for reason in set(Reason) - {Reason.MISSING_UNIT}:
        assert resolve(rules_of(ruleset(rule()), Decision(None, reason))).reason in FlagReason


def test_what_only_a_decision_knows_goes_with_it():
    decision = Decision("green", Reason.SPLIT, propensity=0.25, because_of="h", tainted=True)
    found = resolve(rules_of(ruleset(rule()), decision))
    assert found.metadata == {
        "flagSetId": "demo",
        "version": "9",
        "experiment": "button",
        "layer": "button",
        "hashVersion": "flagd-v3",
        "configVersion": 3,
        "decision": "SPLIT",
        "propensity": 0.25,
        "becauseOf": "h",
        "tainted": True,
    }


def test_whoever_has_no_id_of_the_flags_type_is_told_which_is_missing():
    error = fault(rules_of(ruleset(rule(unit_type="shop"))), country="US")
    assert (error.fault, error.code) == (FlagFault.TARGETING_KEY_MISSING, Code.FAILED_PRECONDITION)
    assert "shop" in error.message


def test_a_flag_that_does_not_run_needs_no_id():
    found = resolve(rules_of(ruleset(rule(serving=pb.SERVING_KILLED))), country="US")
    assert found.reason is FlagReason.DISABLED


def test_what_another_system_assigns_is_no_flag():
    rules = rules_of(ruleset(rule(serving=pb.SERVING_EXTERNAL, layer="")))
    assert fault(rules).fault is FlagFault.FLAG_NOT_FOUND
    assert fault(rules, "none").code is Code.NOT_FOUND


NUMBERS: dict[str, Any] = {"values": (7, 7.5), "value_type": experiment_pb2.VALUE_TYPE_FLOAT}


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({}, FlagType.BOOLEAN),
        ({}, FlagType.FLOAT),
        ({}, FlagType.OBJECT),
        (NUMBERS, FlagType.STRING),
        ({"values": (True, False), "value_type": experiment_pb2.VALUE_TYPE_BOOLEAN},
         FlagType.INTEGER),
    ],
)  # fmt: skip
def test_another_type_is_a_mismatch(fields, wanted):
    error = fault(rules_of(ruleset(rule(**fields))), wanted=wanted)
    assert (error.fault, error.code) == (FlagFault.TYPE_MISMATCH, Code.INVALID_ARGUMENT)
    assert error.message.startswith(f"type is '{wanted.value}'; allowed: the type of the flag, ")


def test_whole_numbers_may_be_asked_for_as_numbers_and_fractions_not_as_whole_ones():
    whole: dict[str, Any] = {"values": (3, 4), "value_type": experiment_pb2.VALUE_TYPE_INTEGER}
    found = resolve(rules_of(ruleset(rule(**whole))), wanted=FlagType.FLOAT)
    assert (found.type, type(found.value)) == (FlagType.FLOAT, float)
    rules = rules_of(ruleset(rule(**NUMBERS)), Decision("control", Reason.SPLIT))
    found = resolve(rules, wanted=FlagType.INTEGER)
    assert (found.value, type(found.value)) == (7, int)
    rules = rules_of(ruleset(rule(**NUMBERS)), Decision("green", Reason.SPLIT))
    assert fault(rules, wanted=FlagType.INTEGER).fault is FlagFault.TYPE_MISMATCH


def with_parameters() -> pb.Ruleset:
    found = ruleset(rule())
    found.layers[0].parameters.add(key="size", default_value=value(10))
    found.experiments[0].variants[1].payload.update({"size": 12.5})
    found.layers.add(
        layer="launch",
        unit_type="shop",
        salt="layer/launch",
        hash_version=experiment_pb2.HASH_VERSION_FLAGD_V3,
        launch=True,
    ).parameters.add(key="size", default_value=value(11))
    return found


def test_a_parameter_is_a_flag_that_an_experiment_may_set():
    rules = rules_of(with_parameters())
    flag = rules.flags.flags["param.size"]
    assert (flag.type, flag.unit_type) == (FlagType.FLOAT, "user")
    seen = set()
    for number in range(20):
        found = resolve(rules, "param.size", targetingKey=f"u-{number}")
        button = resolve(rules, targetingKey=f"u-{number}")
        if button.variant == "green":
            assert (found.value, found.variant, found.reason) == (12.5, "green", FlagReason.SPLIT)
            assert found.metadata["experiment"] == "button"
        else:
            assert (found.value, found.variant) == (10, "default")
            assert found.reason is FlagReason.DEFAULT
        seen.add(found.variant)
    assert seen == {"green", "default"}


def test_all_flags_come_by_key_each_by_its_own_kind_of_unit():
    found = with_parameters()
    found.experiments.add().CopyFrom(rule("area", unit_type="shop", layer=""))
    found.experiments[1].serving = pb.SERVING_NOT_RUNNING
    rules = rules_of(found)
    answers = asyncio.run(resolve_flags({"targetingKey": "u-1"}, rules, 0.0))
    assert [answer.key for answer in answers] == ["area", "button", "param.size"]
    answers = asyncio.run(resolve_flags({"user": "a\x00"}, rules, 0.0))
    faults = [answer.fault for answer in answers if isinstance(answer, FlagError)]
    assert faults == [FlagFault.INVALID_CONTEXT] * 3


class TestContext:
    """Whom a flag's decision is about."""

    def subject(self, **context: Any) -> Subject:
        return subject_of(context, "user", {"user", "device"}, 5.0)

    def test_the_targeting_key_is_the_id_of_the_flags_unit_type(self):
        found = self.subject(targetingKey="u", country="US")
        assert (found.ids, found.attributes) == ({"user": "u"}, {"country": "US"})
        assert found.now_s == 5.0

    def test_an_attribute_of_a_types_name_is_an_id_of_that_type(self):
        found = self.subject(targetingKey="u", user="v", device="d", shop="s")
        assert found.ids == {"user": "v", "device": "d"}

    @pytest.mark.parametrize("no_text", [5, 5.0, True, None, "", ["u"], {"id": "u"}])
    def test_only_text_is_an_id(self, no_text):
        assert self.subject(targetingKey=no_text).ids == {}
        assert self.subject(targetingKey="u", user=no_text).ids == {"user": "u"}

    @pytest.mark.parametrize("unfit", ["a\nb", "\x7f", "x" * 257, "é" * 129, "\ud800"])
    def test_an_id_that_no_reply_could_carry_is_refused(self, unfit):
        with pytest.raises(UnfitIdsError) as caught:
            self.subject(targetingKey="u", device=unfit)
        assert caught.value.names == ("device",)


class TestStamps:
    """Which flags may answer otherwise after a change."""

    def changed(self, old: pb.Ruleset, new: pb.Ruleset) -> set[str]:
        before, after = flag_set(old).stamps, flag_set(new).stamps
        return {key for key in after if before.get(key) != after[key]}

    def three(self) -> pb.Ruleset:
        needing = rule("needing", prerequisites=[pb.PrerequisiteRule(experiment="button")])
        found = ruleset(rule(), needing, rule("alone"))
        found.layers[0].parameters.add(key="size", default_value=value(10))
        return found

    def test_a_new_version_alone_changes_none(self):
        old, new = self.three(), self.three()
        new.config_version += 1
        assert self.changed(old, new) == set()

    def test_a_change_reaches_whoever_needs_it(self):
        old, new = self.three(), self.three()
        new.experiments[0].serving = pb.SERVING_KILLED
        assert self.changed(old, new) == {"button", "needing", "param.size"}

    def test_a_change_of_a_layer_reaches_its_experiments(self):
        old, new = self.three(), self.three()
        new.layers[2].salt = "layer/other"
        assert self.changed(old, new) == {"alone"}

    def test_holdouts_and_domains_reach_all(self):
        old, new = self.three(), self.three()
        new.holdouts.add(holdout="all", unit_type="user", salt="h", hash_version=1, slots=500)
        assert self.changed(old, new) >= {"button", "needing", "alone"}
