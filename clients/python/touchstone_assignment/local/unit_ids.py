"""The ids that the service takes: what it refuses is not decided in process either."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from touchstone_assignment.subject import Subject

MOST_BYTES = 256
_TYPE = re.compile(r"[a-z][a-z0-9_]{0,31}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def taken_subject(
    ids: Mapping[str, str],
    attributes: Mapping[str, object],
    now_s: float,
    known_types: Collection[str],
) -> Subject:
    """The subject of these ids; ValueError for one that the service refuses.

    That is one that is empty, has more than 256 bytes, or holds a control character, and one of a
    type that is no name. `known_types` are some that are.
    """
    subject = Subject(ids, attributes, now_s)
    for unit_type, name in ids.items():
        # Nearly every id, and all that its key needs: asked once, and not again when it is hashed.
        if (
            name.isascii()
            and name.isprintable()
            and "%" not in name
            and 0 < len(name) <= MOST_BYTES
            and unit_type in known_types
        ):
            subject.unit_type, subject.unit_bytes = unit_type, name.encode()
        else:
            require_id(unit_type, name)
    return subject


def require_id(unit_type: str, name: str) -> None:
    """ValueError for an id that the service refuses, saying what is wrong with it."""
    if _TYPE.fullmatch(unit_type) is None:
        raise ValueError(
            f"the type {unit_type!r} of an id is no name; use a letter of a-z, then at most 31 "
            "of a-z, 0-9 and '_'"
        )
    if not name:
        raise ValueError(f"the id of type {unit_type!r} is empty; send at least one character")
    if len(name.encode("utf-8")) > MOST_BYTES:
        raise ValueError(f"the id of type {unit_type!r} has more than {MOST_BYTES} bytes as UTF-8")
    if _CONTROL.search(name):
        raise ValueError(f"the id of type {unit_type!r} holds a control character")
