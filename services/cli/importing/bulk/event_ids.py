"""Ids of events that have none of their own: the same at every import of the same rows."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from shared.errors import invalid

_DIGITS = 32


class EventIds:
    """`<file>:<kind>:<row>`: of the same file and row always the same id, however the rows are
    put into batches. `file` is what the user calls the file for ever, or the digest of its bytes.
    """

    def __init__(self, file: str, kind: str) -> None:
        self._prefix = f"{file}:{kind}:"

    def of(self, rows: NDArray[np.int64]) -> pa.Array:
        """The ids of rows of these numbers."""
        numbers = pa.array(rows).cast(pa.string())
        return pc.binary_join_element_wise(pa.scalar(self._prefix), numbers, "")


def digest_name(path: Path) -> str:
    """A name that a file of these bytes has, wherever it lies."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:_DIGITS]


def require_prefix(prefix: str) -> None:
    """Raises INVALID_ARGUMENT when it cannot begin an id."""
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._/-]{0,79}", prefix):
        raise invalid(
            "--id-prefix",
            prefix,
            "up to 80 letters, digits, dots, slashes, hyphens and underscores, the first a letter "
            "or digit",
        )
