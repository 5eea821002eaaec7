"""flagd's `fractional` as the split of an experiment."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from services.cli.importing.flagd_conditions import NotTakenError

WHOLE = 10_000
_UNIT_TYPE = re.compile(r"[a-z][a-z0-9_]{0,31}")
_TARGETING_KEY = "targetingKey"
_FLAG_KEY = "$flagd.flagKey"


@dataclass(frozen=True, slots=True)
class Split:
    """The weights of the arms, of 10,000, the share of all traffic, and whose id is hashed."""

    weights: Mapping[str, int]
    traffic_slots: int
    unit_type: str


def read_split(parts: Any) -> Split:
    """The split; NotTakenError for one that an experiment cannot have.

    Weights are rounded to 10,000ths. An arm that stands several times counts as one; arms of null
    are the traffic that is left out.
    """
    if not isinstance(parts, list) or not parts:
        raise NotTakenError("its `fractional` has no arms")
    unit_type, arms = "user", parts
    if not isinstance(parts[0], list):
        unit_type, arms = _unit_type(parts[0]), parts[1:]
    weights: dict[str | None, int] = {}
    for arm in arms:
        key, weight = _arm(arm)
        weights[key] = weights.get(key, 0) + weight
    left_out = weights.pop(None, 0)
    in_it = {key: weight for key, weight in weights.items() if key is not None and weight}
    total = sum(in_it.values())
    if not total:
        raise NotTakenError("the weights of its arms sum to 0")
    slots = round(WHOLE * total / (total + left_out))
    if not slots:
        raise NotTakenError("its arms have less than 1/10,000 of the traffic")
    return Split(_rounded(in_it, total), slots, unit_type)


def _arm(arm: Any) -> tuple[str | None, int]:
    if not isinstance(arm, list) or not 1 <= len(arm) <= 2:
        raise NotTakenError("an arm of its `fractional` is no list of a variant and a weight")
    key, weight = arm[0], arm[1] if len(arm) == 2 else 1
    if not isinstance(key, str | None):
        raise NotTakenError("an arm of its `fractional` is a rule and no variant")
    if isinstance(weight, bool) or not isinstance(weight, int):
        raise NotTakenError(f"the weight of its arm {key!r} is a rule or no whole number")
    return key, max(0, weight)


def _unit_type(bucket_by: Any) -> str:
    """Whose id is hashed: the variable of the key, behind constants and the flag's own key."""
    pieces = bucket_by.get("cat") if isinstance(bucket_by, dict) else None
    pieces = pieces if isinstance(pieces, list) else [bucket_by]
    names = [piece["var"] for piece in pieces if isinstance(piece, dict) and list(piece) == ["var"]]
    names = [name[0] if isinstance(name, list) and len(name) == 1 else name for name in names]
    others = [p for p in pieces if not isinstance(p, str) and not isinstance(p, dict)]
    names = [name for name in names if name != _FLAG_KEY]
    rules = [piece for piece in pieces if isinstance(piece, dict) and list(piece) != ["var"]]
    if len(names) != 1 or others or rules or not isinstance(names[0], str):
        raise NotTakenError("it hashes something else than one id")
    if names[0] == _TARGETING_KEY:
        return "user"
    if _UNIT_TYPE.fullmatch(names[0]) is None:
        raise NotTakenError(
            f"it hashes the attribute {names[0]!r}, whose name is no unit type: a lower-case "
            "letter, then at most 31 of a-z, 0-9 and '_'"
        )
    return names[0]


def _rounded(weights: Mapping[str, int], total: int) -> dict[str, int]:
    """Whole 10,000ths that sum to 10,000: those that lose most by rounding down get the rest."""
    found = {key: WHOLE * weight // total for key, weight in weights.items()}
    rest = WHOLE - sum(found.values())
    by_loss: Sequence[str] = sorted(weights, key=lambda key: -(WHOLE * weights[key] % total))
    for key in by_loss[:rest]:
        found[key] += 1
    if min(found.values()) == 0:
        raise NotTakenError("one of its arms has less than 1/10,000 of the split")
    return found
