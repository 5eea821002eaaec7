"""Validation of requests by the rules in their contracts (protovalidate)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any

from google.protobuf.message import Message
from protovalidate import Validator, Violation

from shared.errors import FieldViolation, invalid_fields, shown

ItemViolations = Mapping[int, list[FieldViolation]]
_NONE: ItemViolations = MappingProxyType({})
_ITEMS: ContextVar[ItemViolations] = ContextVar("item_violations", default=_NONE)


def item_violations() -> ItemViolations:
    """What is wrong with single items of the request being served, by their position.

    Only for an RPC whose rule names a `per_item` field; empty when every item is well.
    """
    return _ITEMS.get()


class RequestValidator:
    """Checks requests against the rules of their contracts."""

    def __init__(self) -> None:
        self._validator = Validator()

    def violations(self, message: Message) -> list[FieldViolation]:
        """Everything that is wrong with a message."""
        return _split(self._validator.collect_violations(message), per_item="")[0]

    def check(self, request: Message, per_item: str) -> None:
        """Raises INVALID_ARGUMENT with every violation, except those within an item of the
        `per_item` field, which `item_violations` then gives to the handler.
        """
        violations = self._validator.collect_violations(request)
        _ITEMS.set(_NONE)
        if not violations:
            return
        whole, items = _split(violations, per_item)
        if whole:
            raise invalid_fields(whole)
        _ITEMS.set(items)


def _split(
    violations: Iterable[Violation], per_item: str
) -> tuple[list[FieldViolation], dict[int, list[FieldViolation]]]:
    whole: list[FieldViolation] = []
    items: dict[int, list[FieldViolation]] = {}
    for violation in violations:
        path = list(violation.proto.field.elements) if violation.proto.field else []
        item = _item_index(path, per_item)
        if item is None:
            whole.append(FieldViolation(_path(path), _description(violation)))
        else:
            items.setdefault(item, []).append(
                FieldViolation(_path(path[1:]), _description(violation))
            )
    return whole, items


def _item_index(path: list[Any], per_item: str) -> int | None:
    if not per_item or not path or path[0].field_name != per_item:
        return None
    subscript = path[0].subscript
    return int(subscript.value) if subscript is not None else None


def _path(path: list[Any]) -> str:
    """A field path as it is written: `units[2].ids[0].type`."""
    parts = []
    for element in path:
        subscript = element.subscript
        index = "" if subscript is None else f"[{subscript.value!r}]"
        parts.append(f"{element.field_name}{index}")
    return ".".join(parts)


def _description(violation: Violation) -> str:
    value = violation.field_value
    text = violation.proto.message or violation.proto.rule_id
    if isinstance(value, str | int | float):
        return f"is {shown(value)}: {text}"
    return str(text)
