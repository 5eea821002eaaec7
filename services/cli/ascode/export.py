"""A project as files: the YAML that says what there is."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import yaml
from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from touchstone.assignment.v1 import experiment_pb2 as pb

from services.cli.ascode.kinds import API_VERSION, REFERENCES, enum_names, list_inside
from services.cli.ascode.needs import in_order, needs_of
from services.cli.ascode.present import Key, Present, is_own_layer, stated
from services.cli.ascode.spans import span_text

_UNDECLARED = ("UnitType", "Attribute", "Metric")


class _Dumper(yaml.SafeDumper):
    """Two spaces before the items of a list, as people write them."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002  yaml's signature
        super().increase_indent(flow, indentless=False)


@dataclass(frozen=True, slots=True)
class Export:
    """What of a project can be written as files, and what cannot."""

    documents: tuple[tuple[Present, str], ...]
    """Each resource with its document, what others need before them."""
    left_out: tuple[tuple[Present, str], ...]
    """Each of the others, and why."""


def exported(project: Mapping[Key, Present]) -> Export:
    """The files of a project, which another project can be made from, too.

    So what is over is in none, nor is what names it: a new experiment cannot be stopped.
    """
    shown = {key: one for key, one in project.items() if not is_own_layer(one, project)}
    needs = {key: needs_of(one.kind, one.message) for key, one in shown.items()}
    left_out: list[tuple[Present, str]] = []
    here = set(project)
    for one in in_order(shown, needs):
        key = one.kind.name, one.resource_id
        why = _why_not(one, here, needs[key])
        if why:
            here.remove(key)
            left_out.append((one, why))
    documents = [one for one in in_order(shown, needs) if (one.kind.name, one.resource_id) in here]
    return Export(tuple((one, document(one)) for one in documents), tuple(left_out))


def _why_not(one: Present, here: Collection[Key], needs: Iterable[Key]) -> str:
    if one.kind.name == "Experiment" and one.message.state == pb.Experiment.STATE_STOPPED:
        return "it is STOPPED, which nothing new can be"
    for kind, name in needs:
        # These may be used without being declared.
        if kind not in _UNDECLARED and (kind, name) not in here:
            return f"it names {kind} {name}, which is over"
    return ""


def document(one: Present) -> str:
    """One resource as YAML, without what is the default, and without what the service sets."""
    message = stated(one.kind, one.resource_id, one.message)
    if "salt" in one.kind.fields:
        message.ClearField("salt")
    spec = _fields(message)
    whole: dict[str, Any] = {
        "apiVersion": API_VERSION,
        "kind": one.kind.name,
        "metadata": {"name": one.resource_id},
    }
    if spec:
        whole["spec"] = spec
    text: str = yaml.dump(whole, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
    return text


def joined(documents: Iterable[str]) -> str:
    """Several documents as one file."""
    return "---\n".join(documents)


def _fields(message: Any) -> dict[str, Any]:
    return {field.name: _value(field, value) for field, value in message.ListFields()}


def _value(field: FieldDescriptor, value: Any) -> Any:
    if field.is_repeated:
        return [_one(field, item) for item in value]
    return _one(field, value)


def _one(field: FieldDescriptor, value: Any) -> Any:
    if field.message_type is not None:
        return _message(field.message_type, value)
    if field.cpp_type == FieldDescriptor.CPPTYPE_ENUM:
        return {number: name for name, number in enum_names(field).items()}[value]
    if field.full_name in REFERENCES:
        return value.rpartition("/")[2]
    return value


def _message(message: Descriptor, value: Any) -> Any:
    if message.full_name == "google.protobuf.Duration":
        return span_text(value)
    if message.full_name.startswith("google.protobuf."):
        return json_format.MessageToDict(value)
    inner = list_inside(message)
    if inner is not None:
        return [_one(inner, item) for item in getattr(value, inner.name)]
    return _fields(value)
