"""From a YAML node to a message of the contract, with each fault where it stands."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import yaml
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from services.cli.ascode.faults import Fault, Place, Text, unknown
from services.cli.ascode.kinds import OUT_WITHIN, REFERENCES, enum_names, list_inside
from services.cli.ascode.spans import SPAN, read_span
from shared.resource_names import resource_name

_INTEGERS = (FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_INT64)
_RANGE = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
}
_TAG = "tag:yaml.org,2002:"
_INT = re.compile(r"[-+]?[0-9]+")
_SHOWN = 40


class Builder:
    """Builds one resource; remembers where each field stands, and every fault."""

    def __init__(self, text: Text, project: str, *, any_case: bool = False) -> None:
        """With `any_case` values of enums may stand in lower case, as options have them."""
        self.faults: list[Fault] = []
        self.places: dict[str, Place] = {}
        """By the path of a field, as the validation of contracts writes it."""
        self._text = text
        self._project = project
        self._any_case = any_case

    def fault(self, node: yaml.Node, message: str) -> None:
        """Note one."""
        self.faults.append(Fault(self._text.at(node.start_mark), message))

    def fill(
        self,
        into: Message,
        node: yaml.Node,
        fields: Mapping[str, FieldDescriptor],
        path: str = "",
    ) -> None:
        """Fill a message from a mapping."""
        if not isinstance(node, yaml.MappingNode):
            self.fault(node, f"{path or 'spec'} is {_shown(node)}; allowed: a mapping of fields")
            return
        chosen: dict[str, str] = {}
        for key, value in node.value:
            field = fields.get(key.value)
            if field is None:
                self.fault(key, unknown("field", key.value, fields))
                continue
            here = f"{path}.{field.name}" if path else field.name
            self.places[here] = self._text.at(key.start_mark)
            oneof = field.containing_oneof
            if oneof is not None and oneof.name in chosen:
                message = f"{field.name} stands beside {chosen[oneof.name]}; keep one of them"
                self.fault(key, message)
                continue
            if oneof is not None:
                chosen[oneof.name] = field.name
            self._set(into, field, value, here)

    def _set(self, into: Message, field: FieldDescriptor, node: yaml.Node, path: str) -> None:
        if _is_null(node) and not _is_value(field):
            # `field:` with nothing behind it is the same as no field.
            return
        if field.is_repeated:
            self._extend(into, field, node, path)
        elif field.message_type is not None:
            self._message(getattr(into, field.name), field.message_type, node, path)
            getattr(into, field.name).SetInParent()
        else:
            found = self._scalar(field, node, path)
            if found is not None:
                setattr(into, field.name, found)

    def _extend(self, into: Message, field: FieldDescriptor, node: yaml.Node, path: str) -> None:
        if not isinstance(node, yaml.SequenceNode):
            self.fault(node, f"{path} is {_shown(node)}; allowed: a list")
            return
        items = getattr(into, field.name)
        for index, each in enumerate(node.value):
            here = f"{path}[{index}]"
            self.places[here] = self._text.at(each.start_mark)
            if field.message_type is not None:
                self._message(items.add(), field.message_type, each, here)
            else:
                found = self._scalar(field, each, here)
                if found is not None:
                    items.append(found)

    def _message(self, into: Any, message: Descriptor, node: yaml.Node, path: str) -> None:
        build = _WELL_KNOWN.get(message.full_name)
        if build is not None:
            try:
                build(into, node)
            except ValueError as error:
                self.fault(node, f"{path} is {_shown(node)}; allowed: {error}")
            return
        inner = list_inside(message)
        if inner is not None and isinstance(node, yaml.SequenceNode):
            self._extend(into, inner, node, f"{path}.{inner.name}")
            return
        fields = {
            field.name: field for field in message.fields if field.full_name not in OUT_WITHIN
        }
        self.fill(into, node, fields, path)

    def _scalar(self, field: FieldDescriptor, node: yaml.Node, path: str) -> Any:
        try:
            return self._read(field, node)
        except ValueError as error:
            self.fault(node, f"{path} is {_shown(node)}; allowed: {error}")
            return None

    def _read(self, field: FieldDescriptor, node: yaml.Node) -> Any:
        kind = field.cpp_type
        if not isinstance(node, yaml.ScalarNode):
            raise ValueError("one value")  # noqa: TRY004  read by who wrote the file
        if kind == FieldDescriptor.CPPTYPE_ENUM:
            names = enum_names(field)
            name = node.value.upper() if self._any_case else node.value
            if name not in names:
                raise ValueError(", ".join(names))
            return names[name]
        if kind == FieldDescriptor.CPPTYPE_BOOL:
            return _boolean(node)
        if kind in _INTEGERS:
            return _integer(node, *_RANGE[kind])
        if kind == FieldDescriptor.CPPTYPE_DOUBLE:
            return _double(node)
        if node.tag not in (f"{_TAG}str", f"{_TAG}timestamp"):
            raise ValueError("text; put it in quotes")
        collection = REFERENCES.get(field.full_name)
        return self._named(node.value, collection) if collection else node.value

    def _named(self, text: str, collection: str) -> str:
        if "/" not in text:
            return resource_name(self._project, collection, text) if text else ""
        prefix = resource_name(self._project, collection, "")
        if self._project != ANY_PROJECT and not text.startswith(prefix):
            raise ValueError(f"an id, or {prefix}<id>: nothing of another project")
        return text


ANY_PROJECT = "project"
"""What stands for the project while none is known."""


def plain(node: yaml.Node) -> object:
    """The JSON value of a node; ValueError when it has none. Dates stay the text that they are."""
    if isinstance(node, yaml.MappingNode):
        return {key.value: plain(value) for key, value in node.value}
    if isinstance(node, yaml.SequenceNode):
        return [plain(item) for item in node.value]
    read = _PLAIN.get(node.tag.removeprefix(_TAG))
    if read is None:
        raise ValueError("text, numbers, true, false, null, lists and mappings")
    return read(node)


def _number(node: yaml.Node) -> float:
    number = float(node.value.replace("_", ""))
    if not math.isfinite(number):
        raise ValueError("a finite number")
    return number


def _double(node: yaml.Node) -> float:
    if node.tag == f"{_TAG}int":
        return float(_integer(node, -(2**53) + 1, 2**53 - 1))
    if node.tag != f"{_TAG}float":
        raise ValueError("a number")
    return _number(node)


def _boolean(node: yaml.Node) -> bool:
    # YAML 1.1 takes `no` and `off` for false: too easily meant as a text.
    if node.value not in ("true", "false") or node.tag != f"{_TAG}bool":
        raise ValueError("true or false; put text in quotes")
    return bool(node.value == "true")


def _integer(node: yaml.Node, least: int, most: int) -> int:
    # YAML 1.1 takes 010 for 8 and 1:30 for 90.
    text = str(node.value)
    leading = text.lstrip("+-")
    plain_text = _INT.fullmatch(text) and (leading == "0" or not leading.startswith("0"))
    if node.tag != f"{_TAG}int" or not plain_text or len(text) > 20:
        raise ValueError("a whole number")
    number = int(text)
    if not least <= number <= most:
        raise ValueError(f"a whole number from {least} to {most}")
    return number


def _time(into: Any, node: yaml.Node) -> None:
    if not isinstance(node, yaml.ScalarNode):
        raise ValueError("a time such as 2026-01-31T12:00:00Z")  # noqa: TRY004  as above
    try:
        into.FromJsonString(node.value)
    except ValueError as error:
        raise ValueError("a time with its offset, such as 2026-01-31T12:00:00Z") from error


def _duration(into: Any, node: yaml.Node) -> None:
    if not isinstance(node, yaml.ScalarNode):
        raise ValueError(SPAN)  # noqa: TRY004  as above
    read_span(into, node.value)


def _value(into: Any, node: yaml.Node) -> None:
    from google.protobuf import json_format

    json_format.ParseDict(plain(node), into)  # type: ignore[arg-type]


def _struct(into: Any, node: yaml.Node) -> None:
    if not isinstance(node, yaml.MappingNode):
        raise ValueError("a mapping")  # noqa: TRY004  as above
    into.update(plain(node))


_PLAIN: Mapping[str, Callable[[yaml.Node], object]] = {
    "null": lambda _node: None,
    "bool": _boolean,
    "int": lambda node: _integer(node, -(2**53) + 1, 2**53 - 1),
    "float": _number,
    "str": lambda node: str(node.value),
    "timestamp": lambda node: str(node.value),
}
_WELL_KNOWN: Mapping[str, Callable[[Any, yaml.Node], None]] = {
    "google.protobuf.Timestamp": _time,
    "google.protobuf.Duration": _duration,
    "google.protobuf.Value": _value,
    "google.protobuf.Struct": _struct,
}


def _is_null(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.tag == f"{_TAG}null"


def _is_value(field: FieldDescriptor) -> bool:
    message = field.message_type
    return message is not None and message.full_name == "google.protobuf.Value"


def _shown(node: yaml.Node) -> str:
    if isinstance(node, yaml.MappingNode):
        return "a mapping"
    if isinstance(node, yaml.SequenceNode):
        return "a list"
    text = json.dumps(node.value, ensure_ascii=False)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
