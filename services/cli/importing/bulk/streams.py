"""The bytes of a file, uncompressed on the way."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import pyarrow as pa

COMPRESSIONS = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2", ".lz4": "lz4"}


class Bytes:
    """What a file holds, or standard input; it can be opened again when it is a file."""

    def __init__(self, name: str, stream: BinaryIO | None = None) -> None:
        self.name = name
        self._stream = stream
        self._raw: pa.NativeFile | None = None
        self._size = 0

    @property
    def again(self) -> bool:
        """Whether it can be read more than once."""
        return self._stream is None

    def open(self) -> pa.NativeFile:
        """Its bytes from the start. Raises OSError."""
        if self._stream is not None:
            return pa.PythonFile(self._stream, mode="r")
        path = Path(self.name)
        # What Arrow says of a folder is not for people.
        with path.open("rb"):
            self._size = path.stat().st_size
        self._raw = pa.OSFile(str(path), "rb")
        compression = COMPRESSIONS.get(path.suffix.lower())
        return (
            self._raw if compression is None else pa.CompressedInputStream(self._raw, compression)
        )

    def done(self) -> float | None:
        """How much of the file was read, from 0 to 1."""
        if self._raw is None or not self._size:
            return None
        return 1.0 if self._raw.closed else min(self._raw.tell() / self._size, 1.0)
