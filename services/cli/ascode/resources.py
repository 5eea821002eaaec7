"""Resources as files declare them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from google.protobuf.message_factory import GetMessageClass

from services.cli.ascode.build import ANY_PROJECT, Builder
from services.cli.ascode.faults import Fault, FaultyError, Place, unknown
from services.cli.ascode.kinds import API_VERSION, KINDS, Kind
from services.cli.ascode.rules import contract_faults, rule_faults
from services.cli.ascode.source import SourceDocument, read_documents
from shared.resource_names import project_name

_TOP = ("apiVersion", "kind", "metadata", "spec")


@dataclass(frozen=True, slots=True)
class Declared:
    """A resource as a file has it, with its place."""

    kind: Kind
    resource_id: str
    message: Any
    """A message of the kind, with what the file states and nothing else."""
    place: Place

    @property
    def key(self) -> tuple[str, str]:
        """What tells it from every other."""
        return (self.kind.name, self.resource_id)


def load(paths: Sequence[Path], project: str = ANY_PROJECT) -> list[Declared]:
    """Every resource of the files, in their order. FaultyError with everything that is wrong."""
    documents, faults = read_documents(paths)
    found: dict[tuple[str, str], Declared] = {}
    for document in documents:
        reader = _Reader(document, project)
        declared = reader.read()
        faults += reader.faults
        if declared is None:
            continue
        first = found.setdefault(declared.key, declared)
        if first is not declared:
            where = f"{first.place.file}:{first.place.line}"
            message = f"{declared.kind.name} {declared.resource_id!r} is declared twice: in {where}"
            faults.append(Fault(declared.place, message))
    faults += rule_faults(found)
    if faults:
        raise FaultyError(faults)
    return list(found.values())


class _Reader:
    """Reads one document."""

    def __init__(self, document: SourceDocument, project: str) -> None:
        self._document = document
        self._project = project
        self._builder = Builder(document.text, project)

    @property
    def faults(self) -> list[Fault]:
        return self._builder.faults

    def read(self) -> Declared | None:
        """The resource, or None when it cannot be told what it is."""
        parts = self._parts()
        if parts is None:
            return None
        kind, resource_id, spec, place = parts
        message = _new(kind)
        if "parent" in message.DESCRIPTOR.fields_by_name:
            # The rules of a request need it, and its file does not state it.
            message.parent = project_name(self._project)
        if spec is not None:
            self._builder.fill(message, spec, kind.fields)
        if not self.faults:
            places = self._builder.places
            self.faults.extend(contract_faults(kind, message, places, place))
        return Declared(kind, resource_id, message, place)

    def _parts(self) -> tuple[Kind, str, yaml.Node | None, Place] | None:
        node = self._document.node
        if not isinstance(node, yaml.MappingNode):
            self._builder.fault(node, f"a document is a mapping of {', '.join(_TOP)}")
            return None
        parts = {key.value: value for key, value in node.value}
        for key, _ in node.value:
            if key.value not in _TOP:
                self._builder.fault(key, unknown("key", key.value, _TOP))
        for key in _TOP[:3]:
            if key not in parts:
                self._builder.fault(node, f"{key} is missing; a document has {', '.join(_TOP)}")
                return None
        if parts["apiVersion"].value != API_VERSION:
            given = parts["apiVersion"].value
            self._builder.fault(
                parts["apiVersion"], f"apiVersion is {given!r}; allowed: {API_VERSION!r}"
            )
        kind = KINDS.get(str(parts["kind"].value))
        if kind is None:
            self._builder.fault(parts["kind"], unknown("kind", str(parts["kind"].value), KINDS))
            return None
        resource_id = self._id(kind, parts["metadata"])
        if resource_id is None:
            return None
        place = self._document.text.at(parts["kind"].start_mark)
        return kind, resource_id, parts.get("spec"), place

    def _id(self, kind: Kind, metadata: yaml.Node) -> str | None:
        entries = metadata.value if isinstance(metadata, yaml.MappingNode) else []
        for key, _ in entries:
            if key.value != "name":
                self._builder.fault(key, unknown("key of metadata", key.value, ["name"]))
        name = next((value for key, value in entries if key.value == "name"), None)
        if name is None:
            self._builder.fault(metadata, "metadata.name is missing: the id of the resource")
            return None
        if not isinstance(name.value, str) or not re.fullmatch(kind.id_rule, name.value):
            message = f"metadata.name is {name.value!r}; allowed: {kind.id_rule}"
            self._builder.fault(name, message)
            return None
        return str(name.value)


def _new(kind: Kind) -> Any:
    return GetMessageClass(kind.message)()
