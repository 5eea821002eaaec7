"""The cases of assignment_rules.json, as rulesets in JSON and what is asked of them.

Only ever append: a case that was published stays as it is.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]
HASHES = ("HASH_VERSION_FLAGD_V2", "HASH_VERSION_FLAGD_V3")
UNITS = [f"user-{number}" for number in range(12)]
WHOLE = [{"first": 0, "end": 10_000}]


@dataclass(frozen=True, slots=True)
class Case:
    """A ruleset, the rule that it is about, and questions."""

    name: str
    rule: str
    ruleset: Json
    asked: tuple[Json, ...]


def experiment(key: str, hash_version: str, **changes: Any) -> Json:
    """One that runs on the whole layer `main`, in halves."""
    return {
        "experiment": key,
        "config_version": 1,
        "serving": "SERVING_RUNNING",
        "unit_type": "user",
        "layer": "main",
        "slots": WHOLE,
        "salt": f"split/{key}",
        "hash_version": hash_version,
        "variants": variants(("control", 5000), ("green", 5000)),
        "value_type": "VALUE_TYPE_KEY",
        "control": "control",
    } | changes


def variants(*weights: tuple[str, int], **changes: Mapping[str, Any]) -> list[Json]:
    """Variants whose values are their keys; `changes` add fields to some."""
    return [
        {"key": key, "weight": weight, "value": key} | dict(changes.get(key, {}))
        for key, weight in weights
    ]


def layer(key: str, hash_version: str, **changes: Any) -> Json:
    """A layer of users."""
    return {
        "layer": key,
        "unit_type": "user",
        "salt": f"layer/{key}",
        "hash_version": hash_version,
    } | changes


def holdout(key: str, hash_version: str, slots: int, **changes: Any) -> Json:
    """A holdout of users over everything."""
    return {
        "holdout": key,
        "unit_type": "user",
        "salt": f"holdout/{key}",
        "hash_version": hash_version,
        "slots": slots,
    } | changes


def ruleset(experiments: list[Json], layers: list[Json], **parts: Any) -> Json:
    """A ruleset of one project."""
    base = {"format": 1, "project": "vectors", "config_version": 1}
    return base | {"experiments": experiments, "layers": layers} | parts


def by_units(*keys: str, unit_type: str = "user", units: Iterable[str] = UNITS) -> tuple[Json, ...]:
    """Every unit asked for every experiment."""
    return tuple({"experiment": key, "ids": {unit_type: unit}} for unit in units for key in keys)


Made = tuple[str, Json, tuple[Json, ...]]


def _split(version: str) -> Made:
    thirds = variants(("a", 3334), ("b", 3333), ("c", 3333))
    rules = [
        experiment("halves", version),
        experiment("thirds", version, layer="other", variants=thirds, control="a"),
    ]
    layers = [layer("main", version), layer("other", version)]
    return "split", ruleset(rules, layers), by_units("halves", "thirds")


def _ids(version: str) -> Made:
    units = ["a b", "50%", "50%25", "a:b", "café", "cafe\u0301", "用户-7", "\U0001f600", "x" * 300]
    rules = ruleset([experiment("halves", version)], [layer("main", version)])
    return "key", rules, by_units("halves", units=units)


def _layer(version: str) -> Made:
    rules = [
        experiment("one", version, slots=[{"first": 0, "end": 4000}]),
        experiment("two", version, slots=[{"first": 4000, "end": 7000}]),
        experiment("elsewhere", version, layer="other", slots=[{"first": 0, "end": 4000}]),
    ]
    layers = [layer("main", version), layer("other", version)]
    return "layer", ruleset(rules, layers), by_units("one", "two", "elsewhere")


def _slot(version: str) -> Made:
    scattered = [
        {"first": 0, "end": 100},
        {"first": 2000, "end": 5000},
        {"first": 5000, "end": 5500},
        {"first": 9999, "end": 10_000},
    ]
    rules = ruleset([experiment("one", version, slots=scattered)], [layer("main", version)])
    return "slot", rules, by_units("one", units=[f"user-{number}" for number in range(24)])


def _ramp(version: str, slots: int) -> Made:
    # The neighbour came between two steps, so the last step is given behind it.
    held = [{"first": 0, "end": min(slots, 3000)}]
    if slots > 3000:
        held.append({"first": 4000, "end": 1000 + slots})
    rules = [
        experiment("one", version, slots=held),
        experiment("neighbour", version, slots=[{"first": 3000, "end": 4000}]),
    ]
    many = [f"user-{number}" for number in range(40)]
    asked = by_units("one", "neighbour", units=many)
    return "ramp", ruleset(rules, [layer("main", version)]), asked


def _holdout(version: str) -> Made:
    rules = [experiment("one", version), experiment("two", version, layer="other")]
    layers = [layer("main", version), layer("other", version)]
    holdouts = [
        holdout("everything", version, 1000),
        holdout("of-a-layer", version, 4000, layers=["other"]),
        holdout("of-one", version, 3000, experiments=["one"]),
    ]
    return "holdout", ruleset(rules, layers, holdouts=holdouts), by_units("one", "two")


def _forced(version: str) -> Made:
    forced = [
        {"unit_type": "user", "unit_id": "user-1", "variant": "green"},
        {"unit_type": "user", "unit_id": "user-2", "variant": ""},
        {"unit_type": "device", "unit_id": "d1", "variant": "control"},
    ]
    rules = [
        experiment("one", version, forced=forced),
        experiment("draft", version, forced=forced, slots=[], serving="SERVING_NOT_RUNNING"),
        experiment("dead", version, forced=forced, slots=[], serving="SERVING_KILLED"),
    ]
    keys = ("one", "draft", "dead")
    asked = by_units(*keys, units=UNITS[:4]) + by_units(*keys, unit_type="device", units=["d1"])
    both = tuple(
        {"experiment": key, "ids": {"device": "d1", "user": unit}}
        for unit in ("user-1", "user-3")
        for key in keys
    )
    return "forced", ruleset(rules, [layer("main", version)]), asked + both


def _serving(version: str) -> Made:
    rules = [
        experiment("runs", version),
        experiment("paused", version, slots=[], serving="SERVING_NOT_RUNNING"),
        experiment("dead", version, slots=[], serving="SERVING_KILLED"),
        experiment("foreign", version, layer="", slots=[], serving="SERVING_EXTERNAL"),
    ]
    keys = ("runs", "paused", "dead", "foreign", "gone")
    asked = by_units(*keys, units=["user-1"])
    return (
        "serving",
        ruleset(rules, [layer("main", version)]),
        asked + by_units(*keys, unit_type="device", units=["d1"]),
    )


def _switchback(version: str) -> Made:
    regions = {"window_s": 3600, "washout_s": 600, "region_attribute": "region"}
    rules = [
        experiment("regions", version, switchback=regions),
        experiment("together", version, layer="other", switchback={"window_s": 60}),
    ]
    layers = [layer("main", version), layer("other", version)]
    asked = []
    for region in ("nord", "süd", ""):
        for now_s in (0, 599, 600, 1_767_225_599, 1_767_226_200, 1_767_232_000):
            for key in ("regions", "together"):
                attributes = {"region": region} if region else {}
                ids = {"user": "user-1"}
                asked.append(
                    {"experiment": key, "ids": ids, "attributes": attributes, "now_s": now_s}
                )
    return "switchback", ruleset(rules, layers), tuple(asked)


def _cluster(version: str) -> Made:
    rules = [
        experiment(
            "orgs", version, unit_type="org", layer="orgs", slots=[{"first": 0, "end": 6000}]
        )
    ]
    layers = [layer("orgs", version, unit_type="org")]
    asked = tuple(
        {"experiment": "orgs", "ids": {"org": f"org-{number}", "user": user}}
        for number in range(8)
        for user in ("user-1", "user-2")
    )
    missing = ({"experiment": "orgs", "ids": {"user": "user-1"}},)
    return "cluster", ruleset(rules, layers), asked + missing


def _identity(version: str) -> Made:
    rules = [experiment("linked", version, anonymous_unit_type="device", server_only=True)]
    # By the rules alone an anonymous unit is missing its id; then its id stands in that place.
    asked = tuple(
        {"experiment": "linked", "ids": ids}
        for number in range(8)
        for ids in (
            {"device": f"device-{number}"},
            {"device": f"device-{number}", "user": f"device-{number}"},
            {"device": f"device-{number}", "user": f"user-{number}"},
        )
    )
    return "identity", ruleset(rules, [layer("main", version)]), asked


def _domain(version: str) -> Made:
    rules = [
        experiment("outside", version, slots=[{"first": 6000, "end": 10_000}]),
        experiment("inside", version, layer="inner", slots=[{"first": 0, "end": 2000}]),
        experiment("deep", version, layer="innermost"),
    ]
    layers = [
        layer("main", version),
        layer("inner", version, domain="d1"),
        layer("innermost", version, domain="d2"),
    ]
    domains = [
        {"domain": "d1", "layer": "main", "slots": [{"first": 0, "end": 6000}]},
        {"domain": "d2", "layer": "inner", "slots": [{"first": 2000, "end": 9000}]},
    ]
    return "domain", ruleset(rules, layers, domains=domains), by_units("outside", "inside", "deep")


def _prerequisite(version: str) -> Made:
    rules = [
        experiment("first", version, slots=[{"first": 0, "end": 7000}]),
        experiment(
            "then",
            version,
            layer="other",
            prerequisites=[{"experiment": "first", "variants": ["green"]}],
        ),
        experiment("last", version, layer="third", prerequisites=[{"experiment": "then"}]),
    ]
    layers = [layer("main", version), layer("other", version), layer("third", version)]
    return "prerequisite", ruleset(rules, layers), by_units("first", "then", "last")


def _targeting(version: str) -> Made:
    germans = {
        "compare": {"attribute": "country", "operator": "OPERATOR_IN", "values": ["DE", "AT"]}
    }
    rules = [
        experiment("german", version, targeting={"audience": "germans"}),
        experiment(
            "others", version, layer="other", targeting={"negated": {"audience": "germans"}}
        ),
    ]
    layers = [layer("main", version), layer("other", version)]
    asked = tuple(
        {"experiment": key, "ids": {"user": unit}, "attributes": attributes}
        for unit in UNITS[:4]
        for attributes in ({"country": "DE"}, {"country": "FR"}, {"country": 49}, {})
        for key in ("german", "others")
    )
    audiences = [{"audience": "germans", "condition": germans}]
    return "targeting", ruleset(rules, layers, audiences=audiences), asked


def _dropped(version: str) -> Made:
    thirds = variants(("a", 3334), ("b", 3333), ("c", 3333), b={"dropped": True})
    rules = ruleset(
        [experiment("one", version, variants=thirds, control="a")], [layer("main", version)]
    )
    return "dropped", rules, by_units("one")


def _bandit(version: str) -> Made:
    learned = variants(("a", 500), ("b", 0), ("c", 9500))
    one = experiment("one", version, variants=learned, bandit=True, server_only=True, control="a")
    rules = ruleset([one], [layer("main", version)])
    return "bandit", rules, by_units("one", units=[f"user-{number}" for number in range(40)])


def _parameters(version: str) -> Made:
    sizes = variants(
        ("control", 5000), ("green", 5000), control={"payload": {"size": 1}}, green={"payload": {}}
    )
    blue = variants(("on", 10_000), on={"payload": {"size": 2, "colour": "blue"}})
    size, colour = ({"key": "size", "default_value": 3}, {"key": "colour", "default_value": "grey"})
    rules = [
        experiment("try", version, slots=[{"first": 0, "end": 5000}], variants=sizes),
        experiment(
            "roll-out",
            version,
            layer="launch",
            slots=[{"first": 0, "end": 5000}],
            variants=blue,
            control="on",
        ),
    ]
    layers = [
        layer("main", version, parameters=[size]),
        layer("launch", version, launch=True, parameters=[size, colour]),
    ]
    asked = tuple(
        {"parameter": key, "ids": {"user": unit}} for unit in UNITS for key in ("size", "colour")
    )
    return "parameter", ruleset(rules, layers), asked


_MAKERS: Mapping[str, Callable[[str], Made]] = {
    "split": _split,
    "ids": _ids,
    "layer": _layer,
    "slot": _slot,
    "ramp-1500": lambda version: _ramp(version, 1500),
    "ramp-3000": lambda version: _ramp(version, 3000),
    "ramp-8000": lambda version: _ramp(version, 8000),
    "holdout": _holdout,
    "forced": _forced,
    "serving": _serving,
    "switchback": _switchback,
    "cluster": _cluster,
    "identity": _identity,
    "domain": _domain,
    "prerequisite": _prerequisite,
    "targeting": _targeting,
    "dropped": _dropped,
    "bandit": _bandit,
    "parameter": _parameters,
}


def _case(name: str, version: str) -> Case:
    rule, rules, asked = _MAKERS[name](version)
    suffix = version.removeprefix("HASH_VERSION_").lower().replace("_", "-")
    return Case(f"{name}/{suffix}", rule, rules, asked)


CASES: tuple[Case, ...] = tuple(_case(name, version) for name in _MAKERS for version in HASHES)
