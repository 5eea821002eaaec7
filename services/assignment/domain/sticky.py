"""What a unit was served first, and who an anonymous unit turned out to be.

Two ids may be of one person: a device before the login, a customer from then on. The first variant
that either was served goes on for both. When both had been served different ones by then, the first
one goes on and both are tainted for ever: some of what was measured of them belongs to the other.
"""

import hashlib
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, replace
from datetime import datetime

UnitKey = str
"""Stands for one id of one type in the store; see `unit_key`."""
KEY_CHARACTERS = 32


@dataclass(frozen=True, slots=True)
class Kept:
    """The first variant that a unit was served in an experiment; `time` is aware and in UTC."""

    variant: str
    config_version: int
    time: datetime
    tainted: bool = False
    """Another variant was served to one of the ids before they came together."""
    belongs_to: UnitKey = ""
    """Of an anonymous unit: the first one that it came together with."""


@dataclass(frozen=True, slots=True)
class Ids:
    """The ids of one unit that count in an experiment; at least one is given.

    `own` is of the experiment's unit type, `anonymous` of its anonymous one.
    """

    own: UnitKey | None
    anonymous: UnitKey | None = None


def unit_key(unit_type: str, unit: bytes) -> UnitKey:
    """The key of an id that is written as `unit_bytes` gives it: 128 bits of SHA-256 in hex.

    It is as long for every id, the same on every database, and shows no id to who reads the table.
    """
    # No unit type holds a ":", so no two ids share what is hashed.
    digest = hashlib.sha256(b"%s:%s" % (unit_type.encode(), unit))
    return digest.hexdigest()[:KEY_CHARACTERS]


def first_served(kept: Mapping[UnitKey, Kept], ids: Ids) -> Kept | None:
    """What goes on for this unit, tainted when its ids do not agree; None before the first time."""
    found = [kept[key] for key in (ids.own, ids.anonymous) if key is not None and key in kept]
    if ids.own is None:
        # Alone, an anonymous unit follows the one that it belongs to, who may have followed others.
        found += [kept[one.belongs_to] for one in found if one.belongs_to in kept]
    if not found:
        return None
    first = min(found, key=lambda one: (one.time, one.config_version, one.variant))
    tainted = any(one.tainted or one.variant != first.variant for one in found)
    return replace(first, tainted=tainted, belongs_to="")


def settle(kept: MutableMapping[UnitKey, Kept], ids: Ids, fresh: Kept | None) -> None:
    """Note what this unit is served now, `fresh` when nothing is kept for it and it gets a variant.

    Calling it again changes nothing. An anonymous unit that belongs to somebody else, as a shared
    device does, keeps its variant and its owner.
    """
    first = first_served(kept, ids) or fresh
    if first is None:
        return
    if ids.own is not None and ids.anonymous is not None:
        kept[ids.own] = first
        known = kept.get(ids.anonymous)
        if known is not None and known.belongs_to not in ("", ids.own):
            kept[ids.anonymous] = replace(known, tainted=known.tainted or first.tainted)
        else:
            kept[ids.anonymous] = replace(first, belongs_to=ids.own)
        return
    for key in (ids.own, ids.anonymous):
        if key is not None:
            kept.setdefault(key, first)
