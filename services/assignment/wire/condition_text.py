"""A condition as the text that is kept of it: one text for one condition, audiences by their ids.

The domain keeps this text and looks into it nowhere; messages exist only at the edges.
"""

import json
from collections.abc import Callable, Iterator

from google.protobuf import json_format
from touchstone.assignment.v1.condition_pb2 import Condition

from shared import errors
from shared.resource_names import require_id, resource_name


def condition_text(sent: Condition, project: str, field: str) -> str:
    """The text of a condition that a caller sent, whose audiences are of the caller's project.

    INVALID_ARGUMENT, naming `field`, for what JSON cannot hold; NOT_FOUND for an audience of
    another project.
    """
    kept = Condition()
    kept.CopyFrom(sent)
    _rename(kept, lambda name: require_id(name, project, "audiences"))
    try:
        found = json_format.MessageToDict(kept)
    except (json_format.SerializeToJsonError, ValueError) as error:
        raise errors.invalid(
            field, str(error), "values that are finite numbers, text, true, false or null"
        ) from error
    return json.dumps(found, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def kept_condition(text: str) -> Condition:
    """The condition of a text, its audiences by their ids alone, as rulesets hold it."""
    return json_format.Parse(text, Condition())


def named_condition(text: str, project: str) -> Condition:
    """The condition of a text as callers see it: audiences by their resource names."""
    found = kept_condition(text)
    _rename(found, lambda audience_id: resource_name(project, "audiences", audience_id))
    return found


def audience_ids(text: str) -> frozenset[str]:
    """The ids of the audiences that a condition asks for; empty text asks for none."""
    # Few conditions name any, and all are looked at with every change. In a value it is escaped.
    if '"audience":' not in text:
        return frozenset()
    found = kept_condition(text)
    return frozenset(
        part.audience for part in _parts(found) if part.WhichOneof("kind") == "audience"
    )


def attribute_names(text: str) -> frozenset[str]:
    """The names of the attributes that a condition asks for."""
    found = kept_condition(text)
    return frozenset(
        part.compare.attribute for part in _parts(found) if part.WhichOneof("kind") == "compare"
    )


def _rename(condition: Condition, name: Callable[[str], str]) -> None:
    for part in _parts(condition):
        if part.WhichOneof("kind") == "audience":
            part.audience = name(part.audience)


def _parts(condition: Condition) -> Iterator[Condition]:
    """The condition and all within it. Protobuf bounds how deep a message it reads may be."""
    yield condition
    kind = condition.WhichOneof("kind")
    if kind == "negated":
        yield from _parts(condition.negated)
    elif kind == "all":
        for part in condition.all.conditions:
            yield from _parts(part)
    elif kind == "any":
        for part in condition.any.conditions:
            yield from _parts(part)
