"""Which parameters a layer may have, and which values the payloads of its experiments may set.

Code asks for a parameter by its key alone, so a key stands for one thing in a project: it is of one
EXPERIMENT layer and at most one LAUNCH layer, and every value of it has one JSON type.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from services.assignment.domain.experiment import Variant
from services.assignment.domain.layer import Layer
from services.assignment.domain.limits import LIMITS, Limits
from services.assignment.domain.parameter import Parameter, json_type
from shared import errors
from shared.errors import FieldViolation


def require_parameters(
    layer: Layer, others: Iterable[Layer], limits: Limits = LIMITS
) -> tuple[Parameter, ...]:
    """The layer's parameters as they stand, or INVALID_ARGUMENT with every fault at once.

    `others` are the layers of the project; the layer itself may be among them.
    """
    faults = [*_own_faults(layer.parameters, limits), *_shared_faults(layer, others)]
    if faults:
        raise errors.invalid_fields(faults)
    return layer.parameters


def require_extended(old: Layer, new: Layer, running: Sequence[str]) -> None:
    """What an update may do: add, describe, and give another default while nothing runs.

    INVALID_ARGUMENT when a parameter is taken away or changes its type, FAILED_PRECONDITION when a
    default changes while the experiments of `running` serve it.
    """
    now = {parameter.key: parameter for parameter in new.parameters}
    faults = []
    moved = []
    for before in old.parameters:
        after = now.get(before.key)
        if after is None:
            faults.append(_taken_away(before.key))
        elif after.type is not before.type:
            faults.append(
                FieldViolation(
                    f"parameters.{before.key}.default_value",
                    f"is of type {after.type}; allowed: {before.type}, which its values have had "
                    "so far; add a parameter with another key",
                )
            )
        elif after.default != before.default:
            moved.append(before.key)
    if faults:
        raise errors.invalid_fields(faults)
    if moved and running:
        raise errors.wrong_state(
            f"layer {new.layer_id}",
            f"running {', '.join(sorted(running)[:10])}",
            f"another default of {', '.join(moved[:10])}",
            "that no experiment of the layer runs, because units outside of them would change "
            "what they get; pause or stop these first",
        )


def check_payload(layer: Layer, variants: Sequence[Variant]) -> None:
    """INVALID_ARGUMENT unless the payloads set parameters of the layer only, by their types.

    A layer without parameters takes any payload.
    """
    faults = list(payload_faults(layer, variants))
    if faults:
        raise errors.invalid_fields(faults)


def payload_faults(layer: Layer, variants: Sequence[Variant]) -> Iterator[FieldViolation]:
    """What `check_payload` would refuse."""
    if not layer.parameters:
        return
    types = {parameter.key: parameter.type for parameter in layer.parameters}
    for index, variant in enumerate(variants):
        for key, value in json.loads(variant.payload or "{}").items():
            field = f"variants[{index}].payload.{key}"
            if key not in types:
                keys = ", ".join(sorted(types)[:20])
                yield FieldViolation(
                    field,
                    f"is no parameter of layer {layer.layer_id!r}; allowed: {keys}; add it to "
                    "the layer by UpdateLayer",
                )
            elif json_type(value) is not types[key]:
                yield FieldViolation(
                    field,
                    f"is {errors.shown(value)}; allowed: a value of type {types[key]}, as the "
                    "parameter's default",
                )


def _taken_away(key: str) -> FieldViolation:
    return FieldViolation(
        "parameters",
        f"lack {key!r}, which the layer has; allowed: all that it has, and more: code may ask "
        "for it",
    )


def _own_faults(parameters: Sequence[Parameter], limits: Limits) -> Iterator[FieldViolation]:
    for key, count in Counter(parameter.key for parameter in parameters).items():
        if count > 1:
            yield FieldViolation("parameters", f"hold the key {key!r} {count} times; use it once")
    for index, parameter in enumerate(parameters):
        field = f"parameters[{index}].default_value"
        if parameter.type is None:
            yield FieldViolation(
                field,
                f"of {parameter.key!r} is null or not there; allowed: a value of the type that "
                "code expects",
            )
        size = len(parameter.default.encode())
        if size > limits.max_payload_bytes:
            yield FieldViolation(
                field, f"is {size} bytes; allowed: {limits.max_payload_bytes} bytes as JSON"
            )


def _shared_faults(layer: Layer, others: Iterable[Layer]) -> Iterator[FieldViolation]:
    mine = {parameter.key: (i, parameter) for i, parameter in enumerate(layer.parameters)}
    for other in others:
        if other.layer_id == layer.layer_id:
            continue
        for theirs in other.parameters:
            if theirs.key not in mine:
                continue
            index, parameter = mine[theirs.key]
            if other.kind is layer.kind:
                yield FieldViolation(
                    f"parameters[{index}].key",
                    f"is {theirs.key!r}, which {other.kind} layer {other.layer_id!r} has; allowed: "
                    "a key that no other layer of this kind has",
                )
            elif theirs.type is not parameter.type:
                yield FieldViolation(
                    f"parameters[{index}].default_value",
                    f"is of type {parameter.type}; allowed: {theirs.type}, as the same key in "
                    f"{other.kind} layer {other.layer_id!r}",
                )
