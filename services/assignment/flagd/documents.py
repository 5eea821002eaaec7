"""A project's rules as a document of flagd, for clients that evaluate in process.

It holds every experiment that the client's engine decides exactly as the server does, and no other:
a flag that is not there fails safe, with the default of the code that asks.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from touchstone.assignment.v1 import ruleset_pb2 as pb
from touchstone_assignment.bucketing import HashVersion

from services.assignment.application.flag_set import (
    DEFAULT_VARIANT,
    Flag,
    FlagSet,
    experiment_metadata,
)
from services.assignment.flagd.experiments import Rules, experiment_logic, rules_of
from services.assignment.flagd.logic import InexpressibleError, Logic, is_plain
from services.assignment.flagd.parameters import parameter_logic

MAX_FLAG_BYTES = 65_536
"""A larger rule stays on the server: every client would hold it in memory many times over."""


@dataclass(frozen=True, slots=True)
class Document:
    """A document, and why each flag that is not in it is left out."""

    config_version: int
    text: str
    left_out: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Shared:
    """Rules that a document explains once; `{"$ref": name}` is put in their place."""

    evaluators: dict[str, Logic] = field(default_factory=dict)

    def plain(self, value: Logic) -> Logic:
        """`is_plain` of a value."""
        name = f"plain-{value['var']}"
        self.evaluators.setdefault(name, is_plain(value))
        return {"$ref": name}


def make_document(ruleset: pb.Ruleset, flags: FlagSet, dialect: HashVersion) -> Document:
    """The document of a ruleset, whose flags are given, in a dialect."""
    shared = _Shared()
    rules = rules_of(ruleset, dialect, shared.plain)
    found: dict[str, Any] = {}
    left_out: dict[str, str] = {}
    for key, flag in flags.flags.items():
        try:
            found[key] = _flag(flag, rules)
        except InexpressibleError as error:
            left_out[key] = str(error)
    document: dict[str, Any] = {"flags": found, "metadata": flags.metadata}
    if shared.evaluators:
        document["$evaluators"] = shared.evaluators
    return Document(flags.config_version, _json(document), left_out)


def _flag(flag: Flag, rules: Rules) -> dict[str, Any]:
    made = _parameter(flag, rules) if flag.parameter else _experiment(flag, rules)
    made |= {"state": "ENABLED", "defaultVariant": DEFAULT_VARIANT}
    size = len(_json(made))
    if size > MAX_FLAG_BYTES:
        raise InexpressibleError(f"its rule has {size} bytes; at most {MAX_FLAG_BYTES} are sent")
    return made


def _experiment(flag: Flag, rules: Rules) -> dict[str, Any]:
    rule = rules.experiments[flag.experiment]
    return {
        "variants": dict(flag.values),
        "targeting": experiment_logic(rule, rules),
        "metadata": experiment_metadata(rule),
    }


def _parameter(flag: Flag, rules: Rules) -> dict[str, Any]:
    found = parameter_logic(flag.parameter, flag.unit_type, rules)
    return {
        "variants": {**found.values, **flag.values},
        "targeting": found.logic,
        "metadata": {key: flag.metadata[key] for key in ("layer", "parameter")},
    }


def _json(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))
