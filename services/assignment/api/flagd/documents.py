"""A project's rules as a document of flagd, for clients that evaluate in process.

It holds every experiment that the client's engine decides exactly as the server does, and no other:
a flag that is not there fails safe, with the default of the code that asks.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from touchstone.assignment.v1 import ruleset_pb2 as pb
from touchstone_assignment.bucketing import HashVersion

from services.assignment.api.flagd.experiments import PLAIN, Rules, experiment_logic, rules_of
from services.assignment.api.flagd.logic import (
    MAX_FLAG_BYTES,
    InexpressibleError,
    Logic,
    is_plain,
    written,
)
from services.assignment.api.flagd.parameters import parameter_logic
from services.assignment.application.flag_set import (
    DEFAULT_VARIANT,
    Flag,
    FlagSet,
    experiment_metadata,
)


@dataclass(frozen=True, slots=True)
class Piece:
    """A flag as it stands in a document, or empty and why it is left out."""

    stamp: int
    """Of the rules that it was made from."""
    text: str
    why_not: str = ""
    refers: frozenset[str] = frozenset()
    """The names in its `$ref`."""


@dataclass(frozen=True, slots=True)
class Document:
    """A document, and the pieces that it was put together from."""

    config_version: int
    text: str
    pieces: Mapping[str, Piece]

    @property
    def left_out(self) -> dict[str, str]:
        """The flags that are not in it, and why."""
        return {key: piece.why_not for key, piece in self.pieces.items() if not piece.text}


def make_document(
    ruleset: pb.Ruleset,
    flags: FlagSet,
    dialect: HashVersion,
    previous: Document | None = None,
) -> Document:
    """The document of a ruleset, whose flags are given, in a dialect.

    Pieces of the document before, of the same dialect, are taken over where nothing changed.
    """
    rules = rules_of(ruleset, dialect)
    known = previous.pieces if previous else {}
    pieces: dict[str, Piece] = {}
    for key, flag in flags.flags.items():
        old, stamp = known.get(key), flags.stamps[key]
        if old is None or old.stamp != stamp:
            old = _piece(flag, stamp, rules)
        pieces[key] = old
    return Document(flags.config_version, _text(flags, pieces), pieces)


def _piece(flag: Flag, stamp: int, rules: Rules) -> Piece:
    try:
        made = _flag(flag, rules)
    except InexpressibleError as error:
        return Piece(stamp, "", str(error))
    text = written(made)
    if len(text) > MAX_FLAG_BYTES:
        why_not = f"its rule has {len(text)} bytes; at most {MAX_FLAG_BYTES} are sent"
        return Piece(stamp, "", why_not)
    return Piece(stamp, text, refers=frozenset(_references(made["targeting"])))


def _references(logic: Logic) -> Iterator[str]:
    """The names in its `$ref`."""
    if isinstance(logic, dict):
        if "$ref" in logic:
            yield logic["$ref"]
        logic = list(logic.values())
    if isinstance(logic, list):
        for part in logic:
            yield from _references(part)


def _text(flags: FlagSet, pieces: Mapping[str, Piece]) -> str:
    inside = [f"{written(key)}:{piece.text}" for key, piece in pieces.items() if piece.text]
    names = sorted(frozenset[str]().union(*(piece.refers for piece in pieces.values())))
    rest: dict[str, Any] = {"metadata": flags.metadata}
    if names:
        rest["$evaluators"] = {name: is_plain({"var": name.removeprefix(PLAIN)}) for name in names}
    # The pieces are JSON already.
    return '{"flags":{' + ",".join(inside) + "}," + written(rest)[1:]


def _flag(flag: Flag, rules: Rules) -> dict[str, Any]:
    made = _parameter(flag, rules) if flag.parameter else _experiment(flag, rules)
    return made | {"state": "ENABLED", "defaultVariant": DEFAULT_VARIANT}


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
