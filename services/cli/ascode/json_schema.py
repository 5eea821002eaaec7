"""A JSON Schema of the files, made from the contracts, for editors to check and complete by.

`python -m services.cli.ascode.json_schema` writes it beside the command line's sources.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from buf.validate import validate_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from services.cli.ascode.kinds import (
    API_VERSION,
    KINDS,
    OUT_WITHIN,
    REFERENCES,
    Kind,
    enum_names,
    list_inside,
)
from services.cli.ascode.spans import PATTERN

SCHEMA = Path(__file__).parents[1] / "schema" / "experiment.schema.json"
_LIMITS = (
    ("gte", "minimum"),
    ("gt", "exclusiveMinimum"),
    ("lte", "maximum"),
    ("lt", "exclusiveMaximum"),
)
_TIME = {"type": "string", "format": "date-time"}
_WELL_KNOWN: dict[str, dict[str, Any]] = {
    "google.protobuf.Duration": {"type": "string", "pattern": PATTERN},
    "google.protobuf.Timestamp": _TIME,
    "google.protobuf.Value": {},
    "google.protobuf.Struct": {"type": "object"},
}


def json_schema() -> dict[str, Any]:
    """The schema of one document."""
    parts: dict[str, Any] = {}
    documents = [_document(kind, parts) for kind in KINDS.values()]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"{API_VERSION}: experiments as code",
        "type": "object",
        "required": ["apiVersion", "kind", "metadata"],
        "properties": {
            "apiVersion": {"const": API_VERSION},
            "kind": {"enum": [*KINDS]},
            "metadata": {"type": "object"},
            "spec": {},
        },
        "additionalProperties": False,
        # One after another rather than oneOf: an editor then shows the faults of the one that is.
        "allOf": documents,
        "$defs": parts,
    }


def text() -> str:
    """The schema as it lies in the repository."""
    return json.dumps(json_schema(), indent=2) + "\n"


def _document(kind: Kind, parts: dict[str, Any]) -> dict[str, Any]:
    name = {"type": "string", "pattern": kind.id_rule}
    metadata = {
        "type": "object",
        "required": ["name"],
        "properties": {"name": name},
        "additionalProperties": False,
    }
    return {
        "if": {"properties": {"kind": {"const": kind.name}}},
        "then": {"properties": {"metadata": metadata, "spec": _object(kind.fields, parts)}},
    }


def _object(fields: Any, parts: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": ["object", "null"],
        "properties": {field.name: _field(field, parts) for field in fields.values()},
        "additionalProperties": False,
    }


def _field(field: FieldDescriptor, parts: dict[str, Any]) -> dict[str, Any]:
    one = _one(field, parts)
    if not field.is_repeated:
        return _or_nothing(one)
    limits = _rules(field).repeated
    found: dict[str, Any] = {"type": ["array", "null"], "items": one}
    if limits.HasField("max_items"):
        found["maxItems"] = limits.max_items
    return found


def _or_nothing(one: dict[str, Any]) -> dict[str, Any]:
    """`field:` with nothing behind it is the same as no field."""
    if not one:
        return one
    if "enum" in one:
        return {"enum": [*one["enum"], None]}
    if isinstance(one.get("type"), str):
        return {**one, "type": [one["type"], "null"]}
    return {"anyOf": [one, {"type": "null"}]}


def _one(field: FieldDescriptor, parts: dict[str, Any]) -> dict[str, Any]:
    if field.message_type is not None:
        return _message(field.message_type, parts)
    if field.cpp_type == FieldDescriptor.CPPTYPE_ENUM:
        return {"enum": [*enum_names(field)]}
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return {"type": "boolean"}
    rules = _rules(field)
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        text: dict[str, Any] = {"type": "string"}
        limits = rules.repeated.items.string if field.is_repeated else rules.string
        # An id stands for the whole name, which is what the contract's pattern is of.
        if limits.HasField("pattern") and field.full_name not in REFERENCES:
            text["pattern"] = limits.pattern
        if limits.HasField("max_len"):
            text["maxLength"] = limits.max_len
        return text
    if field.cpp_type == FieldDescriptor.CPPTYPE_DOUBLE:
        return _within({"type": "number"}, rules.double)
    number: Any = rules.int32 if field.cpp_type == FieldDescriptor.CPPTYPE_INT32 else rules.int64
    return _within({"type": "integer"}, number)


def _within(found: dict[str, Any], limits: Any) -> dict[str, Any]:
    """The type of a number, with the limits of the contract."""
    for mine, theirs in _LIMITS:
        if limits.HasField(mine):
            found[theirs] = getattr(limits, mine)
    return found


def _message(message: Descriptor, parts: dict[str, Any]) -> dict[str, Any]:
    if message.full_name in _WELL_KNOWN:
        return _WELL_KNOWN[message.full_name]
    if message.name not in parts:
        parts[message.name] = {}
        fields = {
            field.name: field for field in message.fields if field.full_name not in OUT_WITHIN
        }
        inner = list_inside(message)
        whole = _object(fields, parts)
        listed = {"anyOf": [_field(inner, parts), whole]} if inner is not None else whole
        parts[message.name] = listed
    return {"$ref": f"#/$defs/{message.name}"}


def _rules(field: FieldDescriptor) -> validate_pb2.FieldRules:
    found: validate_pb2.FieldRules = field.GetOptions().Extensions[validate_pb2.field]
    return found


if __name__ == "__main__":
    SCHEMA.parent.mkdir(exist_ok=True)
    SCHEMA.write_text(text())
