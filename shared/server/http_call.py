"""An HTTP request as the guard sees the context of a call, and the reading of its body."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

import grpc

from shared import errors
from shared.errors import DomainError
from shared.server.rpc import Rpc

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
_TOO_LARGE, _UNSUPPORTED = 413, 415
_WAIT_S = 1.0


class EndedError(Exception):
    """The call ended with a status, as the guard decided."""

    def __init__(self, status: grpc.Status) -> None:
        super().__init__(status.details)
        self.status = status


class GoneError(asyncio.CancelledError):
    """The client went away before its request was complete."""


class BodyRoom:
    """The memory that the bodies of all requests take while they are served."""

    def __init__(self, body_bytes: int, total_bytes: int) -> None:
        self.body_bytes = body_bytes
        """Of one body, as it is sent and decompressed."""
        self._left = total_bytes

    def take(self, size: int) -> None:
        """Raises RESOURCE_EXHAUSTED, with a delay, when there is not as much left."""
        if size > self._left:
            raise errors.overloaded(
                "the requests being served take all the memory that there is for them; nothing "
                "of this one was done: send it again after the delay",
                _WAIT_S,
            )
        self._left -= size

    def give(self, size: int) -> None:
        """Ends what was taken."""
        self._left += size


class HttpCall:
    """One request. `close` gives back the memory that it took."""

    def __init__(self, scope: Scope, receive: Receive, media_type: str, room: BodyRoom) -> None:
        self._receive, self._media_type, self._room = receive, media_type, room
        self._taken = 0
        self._headers: dict[str, str] = {
            key.decode("latin-1"): value.decode("latin-1") for key, value in scope["headers"]
        }
        self.metadata: Sequence[tuple[str, str | bytes]] = ()
        """What goes with the answer."""
        self.http_status = 0
        """Of a failure for which HTTP has a better word than for its code; else 0."""

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        """The headers."""
        return tuple(self._headers.items())

    def time_remaining(self) -> float | None:
        """HTTP names no deadline."""
        return None

    def set_trailing_metadata(self, metadata: Sequence[tuple[str, str | bytes]]) -> None:
        """Says what goes with the answer."""
        self.metadata = metadata

    async def abort_with_status(self, status: grpc.Status) -> None:
        """Ends the call."""
        raise EndedError(status)

    def close(self) -> None:
        """Called when the call has ended."""
        self._room.give(self._taken)

    async def body(self) -> bytes:
        """The whole body, decompressed.

        Raises INVALID_ARGUMENT for what is not of the media type or not decodable,
        RESOURCE_EXHAUSTED for what is too large, and GoneError.
        """
        encoding = self._encoding()
        announced = self._headers.get("content-length", "")
        if announced.isascii() and announced.isdigit():
            self._require_size(int(announced))
        body = await self._read()
        return self._decompressed(body) if encoding == "gzip" else body

    def _encoding(self) -> str:
        media_type = self._headers.get("content-type", "").partition(";")[0].strip().lower()
        if media_type != self._media_type:
            raise self._as(
                _UNSUPPORTED, errors.invalid("content-type", media_type, self._media_type)
            )
        encoding = self._headers.get("content-encoding", "identity").strip().lower()
        if encoding not in {"identity", "gzip"}:
            raise self._as(
                _UNSUPPORTED, errors.invalid("content-encoding", encoding, "gzip, or none")
            )
        return encoding

    async def _read(self) -> bytes:
        body, more = bytearray(), True
        while more:
            event = await self._receive()
            if event["type"] == "http.disconnect":
                raise GoneError
            part = event.get("body", b"")
            self._require_size(len(body) + len(part))
            self._take(len(part))
            body += part
            more = event.get("more_body", False)
        return bytes(body)

    def _decompressed(self, body: bytes) -> bytes:
        limit = self._room.body_bytes
        decoder = zlib.decompressobj(wbits=31)  # gzip, and nothing else
        try:
            found = decoder.decompress(body, limit + 1)
        except zlib.error as error:
            raise _not_gzip(body) from error
        self._require_size(len(found))
        # Members in any number could be made to take any time.
        if not decoder.eof or decoder.unused_data:
            raise _not_gzip(body)
        self._take(len(found))
        return found

    def _require_size(self, size: int) -> None:
        limit = self._room.body_bytes
        if size > limit:
            raise self._as(_TOO_LARGE, errors.limit_exceeded("bytes of the body", size, limit))

    def _take(self, size: int) -> None:
        self._room.take(size)
        self._taken += size

    def _as(self, http_status: int, error: DomainError) -> DomainError:
        self.http_status = http_status
        return error


class ReceiveBody:
    """A check: reads the body of an HTTP request, whose caller is admitted by now."""

    async def __call__(self, rpc: Rpc) -> None:
        """Raises what HttpCall.body raises."""
        rpc.body = await rpc.context.body()


def _not_gzip(body: bytes) -> DomainError:
    return errors.invalid("body", f"{len(body)} bytes", "one complete gzip member")
