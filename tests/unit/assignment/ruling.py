"""Small valid rules that a test varies, and what decides by them."""

from collections.abc import Sequence
from typing import Any

from touchstone.assignment.v1 import condition_pb2, ruleset_pb2
from touchstone_assignment.compile import compile_ruleset
from touchstone_assignment.compiled import Evaluator
from touchstone_assignment.conditions import IdSet

WHOLE = ((0, 10_000),)
FLAGD_V2, FLAGD_V3 = 1, 2
HALVES = (("control", 5000), ("green", 5000))


def slots(*runs: tuple[int, int]) -> list[ruleset_pb2.Slots]:
    """Runs of slots from their first to one past their last."""
    return [ruleset_pb2.Slots(first=first, end=end) for first, end in runs]


def variants(*weights: tuple[str, int], dropped: Sequence[str] = ()) -> list[Any]:
    """Variants with their keys for values."""
    found = []
    for key, weight in weights:
        rule = ruleset_pb2.VariantRule(key=key, weight=weight, dropped=key in dropped)
        rule.value.string_value = key
        found.append(rule)
    return found


def experiment(key: str = "button", **changes: Any) -> ruleset_pb2.ExperimentRule:
    """A running one that owns the whole layer `checkout`; keyword arguments replace fields."""
    base: dict[str, Any] = {
        "experiment": key,
        "config_version": 3,
        "serving": ruleset_pb2.SERVING_RUNNING,
        "unit_type": "user",
        "layer": "checkout",
        "slots": slots(*WHOLE),
        "salt": f"split/{key}",
        "hash_version": FLAGD_V2,
        "variants": variants(*HALVES),
        "value_type": 1,
        "control": "control",
    }
    return ruleset_pb2.ExperimentRule(**(base | changes))


def layer(key: str = "checkout", **changes: Any) -> ruleset_pb2.LayerRule:
    """A layer of users."""
    base: dict[str, Any] = {
        "layer": key,
        "unit_type": "user",
        "salt": f"layer/{key}",
        "hash_version": FLAGD_V2,
    }
    return ruleset_pb2.LayerRule(**(base | changes))


def holdout(key: str = "quiet", share: int = 10_000, **changes: Any) -> ruleset_pb2.HoldoutRule:
    """A holdout of users over everything."""
    base: dict[str, Any] = {
        "holdout": key,
        "unit_type": "user",
        "salt": f"holdout/{key}",
        "hash_version": FLAGD_V2,
        "slots": share,
    }
    return ruleset_pb2.HoldoutRule(**(base | changes))


def country(name: str) -> condition_pb2.Condition:
    """True of a unit of this country."""
    found = condition_pb2.Condition()
    found.compare.attribute = "country"
    found.compare.operator = condition_pb2.OPERATOR_EQUAL
    found.compare.values.add().string_value = name
    return found


def ruleset(
    *experiments: ruleset_pb2.ExperimentRule, layers: Sequence[Any] = (), **parts: Any
) -> ruleset_pb2.Ruleset:
    """A ruleset of a project with the layer `checkout`, or with these layers."""
    return ruleset_pb2.Ruleset(
        format=1,
        project="acme",
        config_version=parts.pop("config_version", 9),
        experiments=experiments,
        layers=layers or [layer()],
        **parts,
    )


def evaluator(
    *experiments: ruleset_pb2.ExperimentRule, layers: Sequence[Any] = (), **parts: Any
) -> Evaluator:
    """What decides by `ruleset` with the same arguments."""
    return compile_ruleset(ruleset(*experiments, layers=layers, **parts), no_lists)


def no_lists(digest: str) -> IdSet:
    """For rulesets without id lists."""
    raise LookupError(digest)
