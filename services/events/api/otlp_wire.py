"""An export as it is encoded, cut into pieces that are decoded one at a time.

Decoded as a whole, an export of a few megabytes may take a hundred times its size: two bytes are
an empty log record. Nothing of a record is looked at here.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from opentelemetry.proto.collector.logs.v1 import logs_service_pb2

from shared.errors import DomainError, limit_exceeded
from shared.server.checks import malformed

MOST_PARTS = 20_000
"""Of an export: its log records, resources, scopes and what else stands around the records."""
PIECE_RECORDS = 1000
PIECE_BYTES = 512 * 1024
RECORD_BYTES = 256 * 1024
"""A longer record is not decoded."""
OVERSIZED = f"of more than {RECORD_BYTES} bytes"
ORIGIN_BYTES = 64 * 1024
"""What describes a resource, or a scope."""
# Tags of fields that hold messages: the field's number, and 2 for a length before the value.
_RESOURCE_LOGS, _SCOPE_LOGS, _LOG_RECORDS = 1 << 3 | 2, 2 << 3 | 2, 2 << 3 | 2
_VARINT, _LENGTH, _FIXED = 0, 2, {1: 8, 5: 4}
_FIRST_TAG, _LONGEST_VARINT = 8, 10


@dataclass(slots=True)
class Run:
    """Records that stand side by side: from start to end is an encoded ScopeLogs."""

    resource: bytes
    """The encoded ResourceLogs without its scopes."""
    scope: bytes
    """The encoded ScopeLogs without its records."""
    start: int
    end: int


class EncodedExport:
    """The pieces of an export, each at most PIECE_RECORDS and PIECE_BYTES."""

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.parts = 0
        """How much there was to look at, also when `cut` raises."""
        self.oversized = 0
        """Records of more than RECORD_BYTES, which are in no piece."""
        self.pieces: list[list[Run]] = []
        self._records = self._bytes = 0

    def cut(self) -> None:
        """Finds the pieces.

        Raises INVALID_ARGUMENT when the bytes are no export, and RESOURCE_EXHAUSTED with the limit
        that it exceeds.
        """
        for tag, _, start, end in self._fields(0, len(self.body)):
            if tag == _RESOURCE_LOGS:
                self._cut_resource(start, end)

    def decode_error(self) -> DomainError:
        """The bytes are no export."""
        return malformed(len(self.body), logs_service_pb2.ExportLogsServiceRequest)

    def _cut_resource(self, start: int, end: int) -> None:
        scopes, rest = [], []
        for tag, begin, value, after in self._fields(start, end):
            if tag == _SCOPE_LOGS:
                scopes.append((value, after))
            else:
                rest.append((begin, after))
        resource = self._joined("resource", rest)
        for value, after in scopes:
            self._cut_scope(resource, value, after)

    def _cut_scope(self, resource: bytes, start: int, end: int) -> None:
        records, rest = [], []
        for tag, begin, value, after in self._fields(start, end):
            if tag != _LOG_RECORDS:
                rest.append((begin, after))
            elif after - value > RECORD_BYTES:
                self.oversized += 1
            else:
                records.append((begin, after))
        scope = self._joined("scope", rest)
        for begin, after in records:
            self._add(resource, scope, begin, after)

    def _add(self, resource: bytes, scope: bytes, start: int, end: int) -> None:
        size = end - start
        full = self._records == PIECE_RECORDS or self._bytes + size > PIECE_BYTES
        if not self.pieces or full:
            self.pieces.append([])
            self._records = self._bytes = 0
        self._records += 1
        self._bytes += size
        runs = self.pieces[-1]
        last = runs[-1] if runs else None
        if last and last.end == start:
            last.end = end
        else:
            runs.append(Run(resource, scope, start, end))

    def _joined(self, what: str, spans: list[tuple[int, int]]) -> bytes:
        size = sum(end - start for start, end in spans)
        if size > ORIGIN_BYTES:
            raise limit_exceeded(f"bytes of a {what} of log records", size, ORIGIN_BYTES)
        return b"".join(self.body[start:end] for start, end in spans)

    def _fields(self, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
        """The tag of each field, where it begins, where its value begins and where it ends."""
        while at < end:
            self.parts += 1
            if self.parts > MOST_PARTS:
                raise limit_exceeded(
                    "log records, resources and scopes of one export",
                    f"more than {MOST_PARTS}",
                    MOST_PARTS,
                )
            begin = at
            tag, at = self._varint(at)
            value, at = self._value(tag & 7, at)
            if at > end or tag < _FIRST_TAG:
                raise self.decode_error()
            yield tag, begin, value, at

    def _value(self, kind: int, at: int) -> tuple[int, int]:
        """Where the value of a field begins and ends."""
        if kind == _LENGTH:
            size, at = self._varint(at)
            return at, at + size
        if kind == _VARINT:
            return at, self._varint(at)[1]
        if kind in _FIXED:
            return at, at + _FIXED[kind]
        raise self.decode_error()

    def _varint(self, at: int) -> tuple[int, int]:
        found = shift = 0
        for byte in self.body[at : at + _LONGEST_VARINT]:
            at += 1
            found |= (byte & 127) << shift
            if byte < 128:
                return found, at
            shift += 7
        raise self.decode_error()
