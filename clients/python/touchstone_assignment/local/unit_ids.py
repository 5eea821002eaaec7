"""The ids that the service takes: what it refuses is not decided in process either."""

from __future__ import annotations

import re
from collections.abc import Mapping

MOST_BYTES = 256
# So many characters are never more bytes than that.
_SURELY_SHORT = MOST_BYTES // 4
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def require_ids(ids: Mapping[str, str]) -> None:
    """ValueError for an empty id, one of more than 256 bytes and one with a control character."""
    for unit_type, name in ids.items():
        if 0 < len(name) <= _SURELY_SHORT and name.isprintable():
            continue
        if not name:
            raise ValueError(f"the id of type {unit_type!r} is empty; send at least one character")
        if len(name.encode("utf-8")) > MOST_BYTES:
            raise ValueError(
                f"the id of type {unit_type!r} has more than {MOST_BYTES} bytes as UTF-8"
            )
        if _CONTROL.search(name):
            raise ValueError(f"the id of type {unit_type!r} holds a control character")
