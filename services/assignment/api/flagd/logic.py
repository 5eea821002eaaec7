"""JsonLogic as every engine of flagd computes it: the few forms that they agree on.

Engines differ in how they turn values into text, compare unlike types and read numbers, so that
every rule asks for the type first, and only text is ever hashed.
"""

import json
import string
from collections.abc import Iterable, Sequence
from typing import Any

from touchstone_assignment.cuts import TOTAL_SLOTS

Logic = Any
"""A JSON value that an engine evaluates."""

MAX_FLAG_BYTES = 65_536
"""A larger rule stays on the server: every client would hold it in memory many times over."""
MAX_UNIT = 64
"""The longest id, in characters, that is looked at one by one and may be hashed."""
# Printable ASCII, but for `%`, which keys write otherwise, and `"` and `\`, which do not survive
# the replacement of `$ref` everywhere. `$` stands before a letter: `$&` would mean something there.
PLAIN = string.digits + string.ascii_letters + "$a" + " !#&'()*+,-./:;<=>?@[]^_`{|}~"
_BLOCK = 8
_TRUTHS = ["true", "True", "false", "False"]
# What every object of JavaScript has without being given it.
_INHERITED = frozenset(
    (
        "constructor",
        "hasOwnProperty",
        "isPrototypeOf",
        "propertyIsEnumerable",
        "toLocaleString",
        "toString",
        "valueOf",
    )
)
# What the context has of flagd, and of this service.
RESERVED = frozenset(("targetingKey", "flagSetId", "configVersion"))


class InexpressibleError(Exception):
    """An engine of flagd cannot compute exactly what the rules say; the text says what it is."""


def written(value: object) -> str:
    """As it stands in a document."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def size_of(logic: Logic, more: int = 0) -> int:
    """The bytes of a part of a rule and of `more`, as it is written.

    InexpressibleError when the rule will be too large. It is asked of each part before another is
    made of it: parts within parts would double again and again.
    """
    size = more + len(written(logic))
    if size > MAX_FLAG_BYTES:
        raise InexpressibleError(
            f"its rule, with all that it needs of others, has more than {MAX_FLAG_BYTES} bytes"
        )
    return size


def variable(name: str) -> Logic:
    """An attribute of the context.

    InexpressibleError for a name that means something else to an engine.
    """
    if "." in name or name.startswith("__") or name in _INHERITED or name in RESERVED:
        raise InexpressibleError(f"the attribute name {name!r} means something else to flagd")
    return {"var": name}


def is_text(value: Logic) -> Logic:
    """Whether the value is text with at least one character."""
    return {"and": [{"!!": [value]}, {"===": [{"cat": [value]}, value]}]}


def is_any_text(value: Logic) -> Logic:
    """Whether the value is text, empty or not."""
    return {"===": [{"cat": [value]}, value]}


def is_number(value: Logic) -> Logic:
    """Whether the value is a number: neither text, nor a truth value, nor nothing."""
    return {
        "and": [
            {"!==": [{"cat": [value]}, value]},
            {"!": [{"in": [{"cat": [value]}, [*_TRUTHS, "null", ""]]}]},
            {"===": [{"-": [value, 0]}, value]},
        ]
    }


def is_no_truth(value: Logic) -> Logic:
    """Whether the value is neither true nor false: to some engines those equal 1 and 0."""
    return {"!": [{"in": [{"cat": [value]}, _TRUTHS]}]}


def is_plain(value: Logic) -> Logic:
    """Whether text is at most 64 characters that stand for themselves in a key.

    Engines hash what they are given, where keys write some bytes otherwise; there is no way to
    write them so here, and a unit of such an id must not come to another bucket.
    """
    check: Logic = {"===": [{"substr": [value, MAX_UNIT]}, ""]}
    for start in range(MAX_UNIT - _BLOCK, -1, -_BLOCK):
        places = range(start, start + _BLOCK)
        block = [{"in": [{"substr": [value, place, 1]}, PLAIN]} for place in places]
        check = {"and": [*block, check]}
        if start:
            check = {"or": [{"===": [{"substr": [value, start]}, ""]}, check]}
    return check


def cut(salt: str, unit: Logic, parts: Iterable[Sequence[Any]]) -> Logic:
    """What the bucket of a unit stands for: parts are of what, and how many buckets wide."""
    wide = [[what, width] for what, width in parts if width]
    return {"fractional": [{"cat": [f"{salt}:", unit]}, *wide]}


def owns(salt: str, unit: Logic, edges: Sequence[int]) -> Logic:
    """Whether the unit's bucket lies between a start and an end of the edges, which ascend."""
    if not edges:
        return False
    if list(edges) == [0, TOTAL_SLOTS]:
        return True
    parts: list[tuple[bool, int]] = []
    place, inside = 0, False
    for edge in (*edges, TOTAL_SLOTS):
        parts.append((inside, edge - place))
        place, inside = edge, not inside
    return cut(salt, unit, parts)
