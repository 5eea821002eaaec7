"""What one field alone cannot tell: rules of the contract, and between resources."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from google.protobuf.message import Message
from touchstone.assignment.v1 import experiment_pb2 as pb

from services.cli.ascode.faults import Fault, Place
from services.cli.ascode.kinds import Kind
from services.cli.ascode.needs import needs_of
from shared.server.validation import RequestValidator

if TYPE_CHECKING:
    from services.cli.ascode.resources import Declared

TOTAL = 10_000
Key = tuple[str, str]


@cache
def _validator() -> RequestValidator:
    return RequestValidator()


def violations(message: Message) -> Iterator[tuple[str, str]]:
    """What breaks the rules that the contract states: the path of a field, and how."""
    for violation in _validator().violations(message):
        yield violation.field, violation.description


def contract_faults(
    kind: Kind, message: Message, places: Mapping[str, Place], start: Place
) -> Iterator[Fault]:
    """What breaks the rules that the contract states, and those of an experiment's design."""
    for path, description in violations(message):
        yield Fault(_place(places, path, start), f"{path or 'spec'} {description}")
    if kind.name == "Experiment":
        for path, text in _design(message):
            yield Fault(_place(places, path, start), f"{path} {text}")


def rule_faults(found: Mapping[Key, Declared]) -> Iterator[Fault]:
    """Resources that need one another in a circle, and units of types that do not fit."""
    done: set[Key] = set()
    for key in found:
        circle = _circle(key, found, [], done)
        if circle:
            path = " -> ".join(f"{kind} {name}" for kind, name in circle)
            yield Fault(found[key].place, f"these need one another in a circle: {path}")
    for declared in found.values():
        if declared.kind.name == "Experiment" and declared.message.layer:
            layer = found.get(("Layer", declared.message.layer.rpartition("/")[2]))
            kinds = {each.message.unit_type or "user" for each in (declared, layer) if each}
            if len(kinds) > 1 and layer is not None:
                yield Fault(
                    declared.place,
                    f"unit_type is {declared.message.unit_type or 'user'!r}, and its layer "
                    f"{layer.resource_id!r} cuts {layer.message.unit_type or 'user'!r}; "
                    "allowed: the layer's",
                )


def _circle(key: Key, found: Mapping[Key, Declared], path: list[Key], done: set[Key]) -> list[Key]:
    if key in path:
        return [*path[path.index(key) :], key]
    if key in done or key not in found:
        return []
    for need in needs_of(found[key].kind, found[key].message):
        circle = _circle(need, found, [*path, key], done)
        if circle:
            done.update(circle)
            return circle
    done.add(key)
    return []


def _design(experiment: Any) -> Iterator[tuple[str, str]]:
    keys = [variant.key for variant in experiment.variants]
    weights = [variant.weight for variant in experiment.variants]
    if len(keys) < 2:
        yield "variants", f"are {len(keys)}; allowed: 2 to 100"
    external = experiment.assignment_source == pb.ASSIGNMENT_SOURCE_EXTERNAL
    if keys and not external and sum(weights) != TOTAL:
        whole = f"{TOTAL} (5000 is a half)"
        yield "variants", f"have the weights {weights}, a sum of {sum(weights)}; allowed: {whole}"
    for key, count in Counter(keys).items():
        if count > 1:
            yield "variants", f"hold the key {key!r} {count} times; use it once"
    if experiment.control_variant and experiment.control_variant not in keys:
        given = experiment.control_variant
        yield "control_variant", f"is {given!r}; allowed: the key of a variant, one of {keys[:10]}"
    for index, variant in enumerate(experiment.variants):
        if variant.key == "default":
            said = "is 'default', which clients see where a unit has no variant; use another key"
            yield f"variants[{index}].key", said
        yield from _value(experiment.value_type, variant, f"variants[{index}]")


def _value(value_type: Any, variant: Any, path: str) -> Iterator[tuple[str, str]]:
    named = pb.ValueType.Name(value_type).removeprefix("VALUE_TYPE_")
    fits = _FITS.get(value_type)
    if fits is None:
        if variant.HasField("value"):
            source = "payload" if value_type == pb.VALUE_TYPE_OBJECT else "key"
            yield f"{path}.value", f"is there; allowed: none, the value is the {source}"
        if value_type == pb.VALUE_TYPE_OBJECT and not variant.HasField("payload"):
            yield path, "has no payload; allowed: a mapping, because value_type is OBJECT"
    elif not variant.HasField("value") or not fits(variant.value):
        yield path, f"has no value that fits; allowed: one of type {named}, as value_type says"


def _is_integer(value: Any) -> bool:
    number = value.number_value
    is_number = value.WhichOneof("kind") == "number_value"
    return is_number and bool(number.is_integer()) and abs(number) < 2**53


_FITS: Mapping[int, Callable[[Any], bool]] = {
    pb.VALUE_TYPE_BOOLEAN: lambda value: value.WhichOneof("kind") == "bool_value",
    pb.VALUE_TYPE_STRING: lambda value: value.WhichOneof("kind") == "string_value",
    pb.VALUE_TYPE_INTEGER: _is_integer,
    pb.VALUE_TYPE_FLOAT: lambda value: value.WhichOneof("kind") == "number_value",
}


def _place(places: Mapping[str, Place], path: str, start: Place) -> Place:
    """Where the field stands, or the innermost part around it that a file has."""
    while path:
        if path in places:
            return places[path]
        path = (
            path[: -len(path.rpartition("[")[2]) - 1]
            if path.endswith("]")
            else (path.rpartition(".")[0])
        )
    return start
