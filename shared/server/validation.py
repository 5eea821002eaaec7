"""Validation of requests by the rules in their contracts (protovalidate)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any

from buf.validate import validate_pb2
from google.protobuf.message import Message
from protovalidate import Validator, Violation

from shared.errors import FieldViolation, invalid_fields, shown
from shared.server.patterns import allowed

ItemViolations = Mapping[int, list[FieldViolation]]
_SMALL_BYTES = 4096
_NONE: ItemViolations = MappingProxyType({})
_ITEMS: ContextVar[ItemViolations] = ContextVar("item_violations", default=_NONE)


def item_violations() -> ItemViolations:
    """What is wrong with single items of the request being served, by their position.

    Only for an RPC whose rule names a `per_item` field; empty when every item is well.
    """
    return _ITEMS.get()


class RequestValidator:
    """Checks requests against the rules of their contracts.

    To find everything that is wrong takes time and memory with every element that is wrong, so it
    is done for small requests only: a few kilobytes can hold thousands of bad elements.
    """

    def __init__(self) -> None:
        self._validator = Validator()

    def first_violation(self, message: Message) -> FieldViolation | None:
        """One thing that is wrong with a message; None when it is well."""
        found = self._validator.collect_violations(message, fail_fast=True)
        return _split(found, message, per_item="")[0][0] if found else None

    def violations(self, message: Message) -> list[FieldViolation]:
        """Everything that is wrong with a message. Takes long: not for what others sent."""
        return _split(self._validator.collect_violations(message), message, per_item="")[0]

    def check(self, request: Message, per_item: str) -> None:
        """Raises INVALID_ARGUMENT with every violation, of a large request with one, except those
        within an item of the `per_item` field, which `item_violations` then gives to the handler.
        """
        _ITEMS.set(_NONE)
        if not self._validator.collect_violations(request, fail_fast=True):
            return
        too_long = _too_long(request)
        if too_long:
            raise invalid_fields(too_long)
        if request.ByteSize() <= _SMALL_BYTES:
            found = self._validator.collect_violations(request)
            whole, items = _split(found, request, per_item)
        else:
            whole, items = self._some(request, per_item)
        if whole:
            raise invalid_fields(whole)
        _ITEMS.set(items)

    def _some(
        self, request: Message, per_item: str
    ) -> tuple[list[FieldViolation], dict[int, list[FieldViolation]]]:
        """One violation of the request without its items, and one of each item."""
        rest = type(request)()
        rest.CopyFrom(request)
        items = {}
        if per_item:
            rest.ClearField(per_item)
            for place, item in enumerate(getattr(request, per_item)):
                violation = self.first_violation(item)
                if violation is not None:
                    items[place] = [violation]
        found = self._validator.collect_violations(rest, fail_fast=True)
        whole, _ = _split(found, rest, per_item="")
        # An item too few is seen before: the items were only taken away here.
        return [violation for violation in whole if violation.field != per_item], items


def _too_long(request: Message) -> list[FieldViolation]:
    """The lists of a request that have more elements than they may."""
    violations = []
    for field in request.DESCRIPTOR.fields:
        most = field.GetOptions().Extensions[validate_pb2.field].repeated.max_items
        if most and len(getattr(request, field.name)) > most:
            violations.append(
                FieldViolation(
                    field.name,
                    f"has {len(getattr(request, field.name))} items; allowed: at most {most}",
                )
            )
    return violations


def _split(
    violations: Iterable[Violation], message: Message, per_item: str
) -> tuple[list[FieldViolation], dict[int, list[FieldViolation]]]:
    whole: list[FieldViolation] = []
    items: dict[int, list[FieldViolation]] = {}
    for violation in violations:
        path = list(violation.proto.field.elements) if violation.proto.field else []
        item = _item_index(path, per_item)
        said = _missing(violation, path, message) or _description(violation)
        if item is None:
            whole.append(FieldViolation(_path(path), said))
        else:
            items.setdefault(item, []).append(FieldViolation(_path(path[1:]), said))
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


def _missing(violation: Violation, path: list[Any], message: Message) -> str:
    """What is said of a field, or of a choice between fields, that must be there and is not.

    Empty for anything else.
    """
    if violation.proto.rule_id != "required":
        return ""
    if not path or path[-1].field_number:
        return "is missing, and must be given"
    holder: Any = message.DESCRIPTOR
    for element in path[:-1]:
        holder = holder.fields_by_name[element.field_name].message_type
        if holder.GetOptions().map_entry:
            holder = holder.fields_by_name["value"].message_type
    names = [field.name for field in holder.oneofs_by_name[path[-1].field_name].fields]
    return f"is missing; allowed: exactly one of {', '.join(names)}"


def _description(violation: Violation) -> str:
    value = violation.field_value
    if violation.proto.rule_id == "string.pattern":
        return f"is {shown(value)}; allowed: {allowed(violation.rule_value)}"
    text = violation.proto.message or violation.proto.rule_id
    if isinstance(value, str | int | float):
        return f"is {shown(value)}: {text}"
    return str(text)
