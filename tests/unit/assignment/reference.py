"""The order of decision as an interpreter that reads a ruleset anew for every decision.

It shares nothing with the compiler but the key rule and the hash, which have vectors of their own.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from touchstone.assignment.v1 import ruleset_pb2
from touchstone_assignment.bucketing import HashVersion, bucket_of, bucketing_key, hash_key

_HASH = {1: HashVersion.FLAGD_V2, 2: HashVersion.FLAGD_V3}
Answer = tuple[str, str, str]
"""The variant, or empty; the reason; because of what."""


@dataclass(frozen=True)
class Asked:
    """Of whom a decision is asked."""

    ids: Mapping[str, str]
    attributes: Mapping[str, object] = field(default_factory=dict)
    now_s: int = 0


def bucket(version: int, salt: str, unit: str) -> int:
    """The bucket of a unit, from 0 to 9,999."""
    return bucket_of(hash_key(_HASH[version], bucketing_key(salt, unit)), 10_000)


def decide(rules: ruleset_pb2.Ruleset, key: str, asked: Asked) -> Answer:
    """What the subject gets in the experiment."""
    found = [rule for rule in rules.experiments if rule.experiment == key]
    if not found:
        return "", "UNKNOWN_EXPERIMENT", ""
    (rule,) = found
    if rule.serving == ruleset_pb2.SERVING_EXTERNAL:
        return "", "EXTERNAL", ""
    if rule.serving == ruleset_pb2.SERVING_KILLED:
        return "", "KILLED", ""
    for forced in sorted(rule.forced, key=lambda f: (f.unit_type != rule.unit_type, f.unit_type)):
        if asked.ids.get(forced.unit_type) == forced.unit_id:
            return forced.variant, "FORCED", ""
    if rule.serving != ruleset_pb2.SERVING_RUNNING:
        return "", "NOT_RUNNING", ""
    if rule.unit_type not in asked.ids:
        return "", "MISSING_UNIT", ""
    return _gated(rules, rule, asked) or _in_layer(rules, rule, asked)


def _gated(
    rules: ruleset_pb2.Ruleset, rule: ruleset_pb2.ExperimentRule, asked: Asked
) -> Answer | None:
    for holdout in sorted(rules.holdouts, key=lambda holdout: holdout.holdout):
        everything = not holdout.layers and not holdout.experiments
        if everything and holdout.unit_type != rule.unit_type:
            continue
        named = rule.experiment in holdout.experiments or rule.layer in holdout.layers
        unit = asked.ids.get(holdout.unit_type)
        if unit is None or not (everything or named):
            continue
        if bucket(holdout.hash_version, holdout.salt, unit) < holdout.slots:
            return "", "HOLDOUT", holdout.holdout
    for needed in rule.prerequisites:
        variant = decide(rules, needed.experiment, asked)[0]
        if not variant or (needed.variants and variant not in needed.variants):
            return "", "PREREQUISITE", needed.experiment
    if rule.HasField("targeting"):
        wanted = rule.targeting.compare.values[0].string_value
        if asked.attributes.get(rule.targeting.compare.attribute) != wanted:
            return "", "NOT_TARGETED", ""
    return None


def _in_layer(rules: ruleset_pb2.Ruleset, rule: ruleset_pb2.ExperimentRule, asked: Asked) -> Answer:
    unit = asked.ids[rule.unit_type]
    layer = _layer(rules, rule.layer)
    if layer.domain and not _in_domain(rules, layer.domain, unit):
        return "", "NOT_IN_DOMAIN", ""
    if not _in(rule.slots, bucket(layer.hash_version, layer.salt, unit)):
        return "", "NOT_IN_SLOTS", ""
    if rule.HasField("switchback"):
        region = ""
        if rule.switchback.region_attribute:
            region = str(asked.attributes.get(rule.switchback.region_attribute, ""))
            if not region:
                return "", "MISSING_REGION", ""
        index, since_s = divmod(asked.now_s, rule.switchback.window_s)
        if since_s < rule.switchback.washout_s:
            return "", "WASHOUT", ""
        unit = f"{region}/{index}"
    place = bucket(rule.hash_version, rule.salt, unit)
    for variant in rule.variants:
        if place < variant.weight:
            return ("", "VARIANT_DROPPED", "") if variant.dropped else (variant.key, "SPLIT", "")
        place -= variant.weight
    raise AssertionError("weights sum to 10,000")


def _in_domain(rules: ruleset_pb2.Ruleset, domain_id: str, unit: str) -> bool:
    for domain in rules.domains:
        if domain.domain == domain_id:
            layer = _layer(rules, domain.layer)
            around = not layer.domain or _in_domain(rules, layer.domain, unit)
            return around and _in(domain.slots, bucket(layer.hash_version, layer.salt, unit))
    return False


def _layer(rules: ruleset_pb2.Ruleset, layer_id: str) -> ruleset_pb2.LayerRule:
    return next(layer for layer in rules.layers if layer.layer == layer_id)


def _in(slots: Iterable[ruleset_pb2.Slots], slot: int) -> bool:
    return any(run.first <= slot < run.end for run in slots)
