"""An event as the sender gave it, parsed and within its limits."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

Value = str | int | float | None

# Between project and event id: a character that neither may hold.
_SEPARATOR = "\x1f"

DIGEST_VERSION = 1
"""How `content_digest` is computed. Another way of computing it gets the next number, up to 15."""
_VERSION_BITS = 4
_VERSION_MASK = (1 << _VERSION_BITS) - 1
_MASK = (1 << 64) - 1
_COMMON_FIELDS = (
    "event_id",
    "event_time",
    "unit_type",
    "unit_id",
    "linked_units",
    "source",
    "properties",
    "kind",
)
PAYLOAD_FIELDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "exposures": ("experiment", "variant", "config_version", "reason", "evaluator"),
        "conversions": ("event_name", "value", "currency"),
        "touchpoints": (
            "channel",
            "campaign_source",
            "medium",
            "campaign",
            "content",
            "term",
            "interaction",
            "cost",
            "currency",
        ),
        "identifies": ("other_unit_type", "other_unit_id", "action"),
        "evaluations": (
            "flag",
            "variant",
            "reason",
            "evaluator",
            "flag_set",
            "version",
            "value_json",
            "error_type",
        ),
    }
)
"""The fields that only one kind has, by the name of its table, in the order of its payload."""
_SORTED_FIELDS: Mapping[str, list[tuple[str, int]]] = {
    kind: sorted((f'"{name}":', place) for place, name in enumerate((*_COMMON_FIELDS, *own)))
    for kind, own in PAYLOAD_FIELDS.items()
}
# ASCII only: it does not depend on what a version of Unicode calls printable.
_quoted = json.encoder.encode_basestring_ascii


class Event(NamedTuple):
    """One event. A named tuple, because a service makes a hundred thousand of them a second."""

    event_id: str
    time_us: int
    """Event time in microseconds since 1970 UTC."""
    unit_type: str
    unit_id: str
    linked_units: str | None
    """JSON list of {"type", "id"}."""
    source: str | None
    properties: str | None
    """JSON object with sorted keys."""
    table: str
    """The kind: the name of the table that it goes to."""
    payload: tuple[Value, ...]
    """The values of the columns that only this kind has, in the order of the layout."""


@dataclass(frozen=True, slots=True)
class EventBatch:
    """Events of one project that were received together and are new."""

    project: str
    receive_time_us: int
    events: tuple[Event, ...]
    digests: tuple[int, ...]
    """`content_digest` of each event."""


def fingerprint_prefix(project: str) -> bytes:
    """What the fingerprints of a project's events have in common."""
    return (project + _SEPARATOR).encode()


def fingerprint(prefix: bytes, event_id: str) -> bytes:
    """128 bits that stand for (project, event id): md5, which every engine computes alike."""
    return hashlib.md5(prefix + event_id.encode(), usedforsecurity=False).digest()


def content_digest(event: Event) -> int:
    """64 bits that stand for everything the sender said: equal in a retry of the same event.

    The lowest 4 bits are DIGEST_VERSION; the others are the lowest 60 of blake2b-64 over the
    canonical JSON of the fields that are present, by their names: a field that is added later and
    is absent changes nothing.
    """
    values: tuple[Value, ...] = event[:8] + event.payload
    fields = [
        name + (_quoted(value) if isinstance(value, str) else repr(value))
        for name, place in _SORTED_FIELDS[event.table]
        if (value := values[place]) is not None
    ]
    text = "{" + ",".join(fields) + "}"
    digest = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
    return _signed((digest << _VERSION_BITS | DIGEST_VERSION) & _MASK)


def same_content(one: int, other: int) -> bool:
    """Whether two digests are of the same content, as far as they can tell.

    Digests of different versions cannot be compared. An id that comes again is far more often a
    retry than another event, so they count as the same.
    """
    return one == other or (one ^ other) & _VERSION_MASK != 0


def _signed(bits: int) -> int:
    return bits - (1 << 64) if bits >> 63 else bits
