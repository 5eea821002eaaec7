"""Names that the contracts take, made from names that people wrote; and ids of events."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping

from shared.errors import invalid

_LONGEST = 63
_MAX_EVENT_ID_BYTES = 128


def variant_key(name: str) -> str:
    """`Mens E-Mail` is `mens-e-mail`."""
    slug = re.sub(r"[^a-z0-9._]+", "-", name.lower()).strip("-._")[:_LONGEST].rstrip("-._")
    return slug or "variant"


def event_name(name: str) -> str:
    """`Order Value` is `order_value`: an event name, and a metric id as well."""
    slug = re.sub(r"[^a-z0-9-]+", "_", name.lower()).strip("_-")
    if not slug[:1].isalpha():
        slug = f"m_{slug}"
    return slug[:_LONGEST].rstrip("_-")


def dataset_name(stem: str) -> str:
    """A dataset's name from the stem of its file."""
    return variant_key(stem)[:40]


def distinct_keys(names: Iterable[str]) -> Mapping[str, str]:
    """The key of each name. Raises INVALID_ARGUMENT when two names have the same."""
    keys: dict[str, str] = {}
    for name in names:
        key = variant_key(name)
        for other, taken in keys.items():
            if taken == key:
                raise invalid(
                    "--variant", name, f"names that differ in letters or digits; {other!r} is there"
                )
        keys[name] = key
    return keys


def event_id(dataset: str, row: int, role: str) -> str:
    """The id of the event that one row has in one role: the same at each import."""
    whole = f"{dataset}:{row}:{role}"
    if len(whole.encode()) <= _MAX_EVENT_ID_BYTES:
        return whole
    return f"{dataset}:{row}:{hashlib.blake2b(role.encode(), digest_size=16).hexdigest()}"
