"""Which other resources one needs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from services.cli.ascode.kinds import KINDS, REFERENCES, Kind

Key = tuple[str, str]
N = TypeVar("N")
_BY_COLLECTION = {kind.collection: kind.name for kind in KINDS.values()}


def needs_of(kind: Kind, message: Message) -> list[Key]:
    """The resources that it names, and the unit types and attributes that it speaks of."""
    found = dict.fromkeys(_named(message))
    found |= dict.fromkeys(_spoken_of(message))
    found.pop((kind.name, ""), None)
    return list(found)


def _named(message: Message) -> Iterator[Key]:
    for field, value in message.ListFields():
        collection = REFERENCES.get(field.full_name)
        if collection is not None:
            kind = _BY_COLLECTION.get(collection)
            for name in value if field.is_repeated else [value]:
                if kind is not None:
                    yield kind, name.rpartition("/")[2]
        elif field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE:
            for part in _parts(field, value):
                yield from _named(part)


def _spoken_of(message: Message) -> Iterator[Key]:
    for field, value in message.ListFields():
        if field.name in ("unit_type", "anonymous_unit_type", "observed_unit_type"):
            yield "UnitType", value
        elif field.name in ("attribute", "region_attribute"):
            yield "Attribute", value
        elif field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE:
            for part in _parts(field, value):
                yield from _spoken_of(part)


def _parts(field: FieldDescriptor, value: Any) -> Sequence[Message]:
    if field.message_type is None or field.message_type.full_name.startswith("google.protobuf."):
        return ()
    return value if field.is_repeated else (value,)


def in_order(found: dict[Key, N], needs: dict[Key, list[Key]]) -> list[N]:
    """Each behind what it needs, otherwise in the order of the kinds and of the ids.

    What is needed and not among them, or in a circle, is left out of account.
    """
    ordered: list[N] = []
    seen: set[Key] = set()
    rank = {name: place for place, name in enumerate(KINDS)}

    def visit(key: Key) -> None:
        if key in seen or key not in found:
            return
        seen.add(key)
        for need in sorted(needs.get(key, ())):
            visit(need)
        ordered.append(found[key])

    for key in sorted(found, key=lambda key: (rank[key[0]], key[1])):
        visit(key)
    return ordered
