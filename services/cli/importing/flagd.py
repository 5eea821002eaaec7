"""A document of flagd as experiments, flag by flag, and why where a flag cannot be one."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
from google.protobuf import struct_pb2
from touchstone.assignment.v1 import experiment_pb2 as pb

from services.cli.importing.flagd_conditions import Found, NotTakenError, read_condition
from services.cli.importing.flagd_splits import Split, read_split

_KEY = re.compile(r"[a-z][a-z0-9-]{0,62}")
_VARIANT = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_MAX_BYTES = 64 * 1024 * 1024
_KINDS: Mapping[type, pb.ValueType.ValueType] = {
    bool: pb.VALUE_TYPE_BOOLEAN,
    str: pb.VALUE_TYPE_STRING,
    int: pb.VALUE_TYPE_INTEGER,
    float: pb.VALUE_TYPE_FLOAT,
    dict: pb.VALUE_TYPE_OBJECT,
}


@dataclass(frozen=True, slots=True)
class Taken:
    """A flag and the experiment that it becomes, or None and why it cannot be one."""

    key: str
    experiment: pb.Experiment | None
    why_not: str = ""


def read_document(path: Path) -> Mapping[str, Any]:
    """The document of a file; typer.BadParameter when it is none."""
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise typer.BadParameter(f"{path} has more than {_MAX_BYTES} bytes")
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise typer.BadParameter(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise typer.BadParameter(f"{path} is no JSON in UTF-8: {error}") from error
    if not isinstance(found, dict) or not isinstance(found.get("flags"), dict | list):
        raise typer.BadParameter(f"{path} is no flagd document: it has no object or list `flags`")
    return found


def take_flags(document: Mapping[str, Any]) -> Iterator[Taken]:
    """Each flag in its turn."""
    rules = document.get("$evaluators")
    evaluators = rules if isinstance(rules, dict) else {}
    for key, flag in _flags(document["flags"]):
        try:
            yield Taken(key, _experiment(key, flag, evaluators))
        except NotTakenError as error:
            yield Taken(key, None, str(error))
        except RecursionError:
            yield Taken(key, None, "its targeting is nested too deeply")


def _flags(flags: Mapping[str, Any] | list[Any]) -> Iterator[tuple[str, Any]]:
    if isinstance(flags, dict):
        yield from flags.items()
        return
    for place, flag in enumerate(flags):
        key = flag.get("key") if isinstance(flag, dict) else None
        yield key if isinstance(key, str) else f"flags[{place}]", flag


def _experiment(key: str, flag: Any, evaluators: Found) -> pb.Experiment:
    if _KEY.fullmatch(key) is None:
        raise NotTakenError(
            "its key is no id of an experiment: a lower-case letter, then at most 62 of a-z, 0-9 "
            "and '-'"
        )
    if not isinstance(flag, dict) or not isinstance(flag.get("variants"), dict):
        raise NotTakenError("it is no object with variants")
    split, targeting = _targeting(flag.get("targeting"), flag.get("defaultVariant"), evaluators)
    control: Any = flag.get("defaultVariant")
    if control not in split.weights:
        raise NotTakenError(
            f"its default variant {control!r} is no arm of the split; whoever is not in an "
            "experiment gets the control's value, so the default has to be the control"
        )
    kind, variants = _variants(flag["variants"], split)
    return pb.Experiment(
        display_name=key,
        unit_type=split.unit_type,
        traffic_slots=split.traffic_slots,
        variants=variants,
        control_variant=control,
        value_type=kind,
        targeting=targeting,
    )


def _targeting(rule: Any, default: Any, evaluators: Found) -> tuple[Split, Any]:
    """`fractional`, or `if` one condition holds `fractional`, else the default."""
    if not isinstance(rule, dict) or not rule:
        raise NotTakenError("it has no targeting: one variant for all is no experiment")
    ((operator, parts),) = rule.items() if len(rule) == 1 else ((None, None),)
    if operator == "fractional":
        return read_split(parts), None
    if operator != "if" or not isinstance(parts, list) or len(parts) not in (2, 3):
        raise NotTakenError(
            "its targeting is neither `fractional` nor one `if` with a condition, a `fractional` "
            "and the default"
        )
    otherwise = parts[2] if len(parts) == 3 else None
    if otherwise is not None and otherwise != default:
        raise NotTakenError(
            f"who is not targeted gets {json.dumps(otherwise)}, not the default variant"
        )
    inner = parts[1]
    if not isinstance(inner, dict) or list(inner) != ["fractional"]:
        raise NotTakenError("who is targeted gets no `fractional` split but a variant or a rule")
    return read_split(inner["fractional"]), read_condition(parts[0], evaluators)


def _variants(
    given: Mapping[str, Any], split: Split
) -> tuple[pb.ValueType.ValueType, list[pb.Variant]]:
    arms: dict[str, Any] = {key: given.get(key) for key in split.weights}
    for key in arms:
        if key not in given:
            raise NotTakenError(f"its split names the variant {key!r}, which it does not have")
        if _VARIANT.fullmatch(key) is None or key == "default":
            raise NotTakenError(
                f"its variant {key!r} has no key for an experiment: a-z or 0-9, then at most 62 "
                "of a-z, 0-9, '.', '_' and '-', and not `default`"
            )
    if len(arms) < 2:
        raise NotTakenError("its split has fewer than two variants")
    kind = _kind(arms)
    variants = []
    for key, value in arms.items():
        variant = pb.Variant(key=key, weight=split.weights[key])
        if kind == pb.VALUE_TYPE_OBJECT:
            variant.payload.update(value)
        elif kind != pb.VALUE_TYPE_KEY:
            variant.value.CopyFrom(_value(value))
        variants.append(variant)
    return kind, variants


def _kind(arms: Mapping[str, Any]) -> pb.ValueType.ValueType:
    kinds = {type(value) for value in arms.values()}
    if kinds == {int, float}:
        kinds = {float}
    if len(kinds) != 1 or not kinds <= _KINDS.keys():
        names = sorted(kind.__name__ for kind in kinds)
        raise NotTakenError(f"the values of its variants are of the types {', '.join(names)}")
    (kind,) = kinds
    if all(key == value for key, value in arms.items()):
        return pb.VALUE_TYPE_KEY
    return _KINDS[kind]


def _value(found: bool | float | str) -> struct_pb2.Value:
    if isinstance(found, bool):
        return struct_pb2.Value(bool_value=found)
    if isinstance(found, str):
        return struct_pb2.Value(string_value=found)
    return struct_pb2.Value(number_value=found)
