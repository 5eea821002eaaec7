"""Files of one JSON object a line, by columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from services.cli.importing.bulk.chunks import CHUNK_BYTES, Chunk
from services.cli.importing.bulk.json_lines import JsonLines
from services.cli.importing.bulk.streams import Bytes
from shared.errors import invalid

_NEWLINE = 10


class NdjsonChunks:
    """A file of one JSON object a line, in UTF-8. A row's number is that of its line; empty lines
    are no rows. Each value is text, objects and lists as JSON.
    """

    # Each row names its own.
    schema: pa.Schema | None = None

    def __init__(self, file: Bytes) -> None:
        self.name = file.name
        self._file = file
        self._lines = JsonLines((), strict=False)
        if file.again:
            file.open().close()

    def want(self, columns: Sequence[str], *, strict: bool) -> None:
        """The names to read. `strict`: a line that has others is unreadable."""
        self._lines = JsonLines(columns, strict=strict)

    def chunks(self) -> Iterator[Chunk]:
        """Every row. Raises INVALID_ARGUMENT where a line does not end."""
        line = 1
        try:
            with self._file.open() as stream:
                for block in _blocks(stream):
                    texts = _lines(block)
                    yield self._lines.chunk(texts, line)
                    line += len(texts)
        except (OSError, pa.ArrowException) as error:
            why = f"behind line {line - 1}: {str(error).strip()}"
            raise invalid("FILE", self.name, f"a readable file of JSON lines ({why})") from error

    def done(self) -> float | None:
        """How much was read."""
        return self._file.done()


def _blocks(stream: pa.NativeFile) -> Iterator[bytes]:
    """Whole lines, a few megabytes at a time."""
    rest = b""
    while block := stream.read(CHUNK_BYTES):
        end = block.rfind(b"\n") + 1
        if end:
            yield b"".join((rest, memoryview(block)[:end]))
        rest = block[end:] if end else rest + block
        if len(rest) > CHUNK_BYTES:
            raise pa.ArrowInvalid(f"a line is longer than {CHUNK_BYTES} bytes")
    if rest:
        yield rest + b"\n"


def _lines(block: bytes) -> pa.Array:
    """The lines of a block that ends with one, in the block's own memory."""
    ends = np.flatnonzero(np.frombuffer(block, np.uint8) == _NEWLINE) + 1
    offsets = np.concatenate([[0], ends]).astype(np.int32)
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(block)]
    return pa.Array.from_buffers(pa.binary(), len(ends), buffers)
