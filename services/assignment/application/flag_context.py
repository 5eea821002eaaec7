"""From the context of a flag's evaluation to whom a decision is about.

The targeting key is the id of the flag's unit type, unless the context has an attribute of that
type's name (`user`, `device`): then that attribute is. Attributes of the names of other unit types
are ids of those. Only text is an id: a number has no one way to be written.
"""

import re
from collections.abc import Collection, Mapping

from touchstone_assignment.subject import Subject

TARGETING_KEY = "targetingKey"
MAX_ID_BYTES = 256
_NO_ID = re.compile(r"[\x00-\x1f\x7f]")

Context = Mapping[str, object]


class UnfitIdsError(ValueError):
    """Some ids cannot be ids: the names of their attributes."""

    def __init__(self, names: Collection[str]) -> None:
        super().__init__(", ".join(names))
        self.names = tuple(names)


def subject_of(
    context: Context, unit_type: str, unit_types: Collection[str], now_s: float
) -> Subject:
    """The subject of a flag about units of `unit_type`.

    UnfitIdsError when an id is longer than 256 bytes, has a control character or no UTF-8 form.
    """
    ids = {name: value for name in unit_types if (value := _id(context, name)) is not None}
    if unit_type not in ids and (key := _id(context, TARGETING_KEY)) is not None:
        ids[unit_type] = key
    unfit = [name for name, value in ids.items() if not _fits(value)]
    if unfit:
        raise UnfitIdsError(unfit)
    attributes = {name: value for name, value in context.items() if name != TARGETING_KEY}
    return Subject(ids, attributes, now_s)


def _id(context: Context, name: str) -> str | None:
    value = context.get(name)
    return value if isinstance(value, str) and value else None


def _fits(value: str) -> bool:
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        return False
    return size <= MAX_ID_BYTES and _NO_ID.search(value) is None
