"""The rulesets that assignment is measured with."""

from __future__ import annotations

from collections.abc import Sequence

from touchstone.assignment.v1 import condition_pb2, experiment_pb2, ruleset_pb2
from touchstone_assignment.compile import compile_ruleset
from touchstone_assignment.compiled import Evaluator
from touchstone_assignment.conditions import IdSet
from touchstone_assignment.conditions.id_set import fingerprint, written

SPLIT_SALT = "split/bench"
EXPERIMENTS, AUDIENCES, A_LAYER = 5000, 1000, 5
LISTED = 1_000_000


def one_experiment(
    version: experiment_pb2.HashVersion.ValueType, slots: int = 10_000, *, targeted: bool = True
) -> Evaluator:
    """What decides the experiment `button`, in halves, for units whose country is DE."""
    return compiled(one_ruleset(version, slots, targeted=targeted))


def one_ruleset(
    version: experiment_pb2.HashVersion.ValueType, slots: int = 10_000, *, targeted: bool = True
) -> ruleset_pb2.Ruleset:
    """The rules of it."""
    layer = ruleset_pb2.LayerRule(
        layer="bench", unit_type="user", salt="layer/bench", hash_version=version
    )
    rule = _experiment("button", "bench", 0, slots)
    rule.salt, rule.hash_version = SPLIT_SALT, version
    if targeted:
        rule.targeting.CopyFrom(_country(["DE"]))
    return ruleset_pb2.Ruleset(
        format=1, project="p", config_version=1, experiments=[rule], layers=[layer]
    )


def large_ruleset(config_version: int = 1, stopped: int = -1) -> ruleset_pb2.Ruleset:
    """5,000 experiments, five a layer, each for one of 1,000 audiences; one may be stopped."""
    share = 10_000 // A_LAYER
    rules = ruleset_pb2.Ruleset(format=1, project="p", config_version=config_version)
    for number in range(EXPERIMENTS // A_LAYER):
        rules.layers.add(
            layer=f"layer-{number}", unit_type="user", salt=f"layer/{number}", hash_version=1
        )
    for number in range(AUDIENCES):
        country = _country([f"C{number}", "DE"])
        rules.audiences.add(audience=f"audience-{number}", condition=country)
    for number in range(EXPERIMENTS):
        place, layer = number % A_LAYER, number // A_LAYER
        rule = _experiment(f"e{number}", f"layer-{layer}", place * share, (place + 1) * share)
        rule.targeting.audience = f"audience-{number % AUDIENCES}"
        if number == stopped:
            rule.serving = ruleset_pb2.SERVING_NOT_RUNNING
        rules.experiments.append(rule)
    return rules


def with_list(digest: str) -> ruleset_pb2.Ruleset:
    """The same ruleset, with every 1,000th experiment for an audience of a million ids instead."""
    rules = large_ruleset()
    rules.audiences.add(audience="listed", unit_type="user", digest=digest, count=LISTED)
    for rule in rules.experiments[AUDIENCES - 1 :: AUDIENCES]:
        rule.targeting.audience = "listed"
    return rules


def list_of(units: int) -> bytes:
    """The fingerprints of the ids `user-0`, `user-2` and so on, as they are stored."""
    return written(fingerprint(f"user-{2 * number}") for number in range(units))


def compiled(
    rules: ruleset_pb2.Ruleset, previous: Evaluator | None = None, listed: bytes = b""
) -> Evaluator:
    """What decides by a ruleset; its id list, if it has one, is made of its content."""

    def content(digest: str) -> IdSet:
        if not listed:
            raise LookupError(digest)
        return IdSet.from_fingerprints(listed)

    return compile_ruleset(rules, content, previous)


def _experiment(key: str, layer: str, first: int, end: int) -> ruleset_pb2.ExperimentRule:
    rule = ruleset_pb2.ExperimentRule(
        experiment=key,
        config_version=1,
        serving=ruleset_pb2.SERVING_RUNNING,
        unit_type="user",
        layer=layer,
        slots=[ruleset_pb2.Slots(first=first, end=end)],
        salt=f"split/{key}",
        hash_version=experiment_pb2.HASH_VERSION_FLAGD_V2,
        value_type=experiment_pb2.VALUE_TYPE_KEY,
        control="control",
    )
    for variant in ("control", "green"):
        rule.variants.add(key=variant, weight=5000).value.string_value = variant
    return rule


def _country(names: Sequence[str]) -> condition_pb2.Condition:
    found = condition_pb2.Condition()
    found.compare.attribute = "country"
    one = len(names) == 1
    found.compare.operator = condition_pb2.OPERATOR_EQUAL if one else condition_pb2.OPERATOR_IN
    for name in names:
        found.compare.values.add().string_value = name
    return found
