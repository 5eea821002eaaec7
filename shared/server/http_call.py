"""An HTTP request as the guard sees the context of a call, and the reading of its body."""

from __future__ import annotations

import asyncio
import zlib
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

import grpc

from shared import errors
from shared.errors import Code, DomainError
from shared.server.rpc import Rpc

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
_TOO_LARGE, _UNSUPPORTED = 413, 415
_WAIT_S = 1.0
_KEY, _BEARER = "x-api-key", "authorization"


class EndedError(Exception):
    """The call ended with a status, as the guard decided."""

    def __init__(self, status: grpc.Status) -> None:
        super().__init__(status.details)
        self.status = status


class GoneError(asyncio.CancelledError):
    """The client went away before its request was complete."""


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """What bodies may take."""

    body_bytes: int
    """Of one body, as it is sent and decompressed."""
    project_bytes: int
    """Of all bodies of a project at once: what it sends must leave room for others."""
    total_bytes: int
    """Of all bodies at once."""
    part_s: float
    """In each such time `part_bytes` must come, or the rest."""
    part_bytes: int


class BodyRoom:
    """The memory that the bodies of all requests take while they are served."""

    def __init__(self, limits: BodyLimits) -> None:
        self.limits = limits
        self._total = 0
        self._taken: Counter[str] = Counter()

    def take(self, project: str, size: int) -> None:
        """Raises RESOURCE_EXHAUSTED, with a delay, when there is not as much left."""
        for who, used, most in (
            (f"of project {project}", self._taken[project], self.limits.project_bytes),
            ("of all projects", self._total, self.limits.total_bytes),
        ):
            if used + size > most:
                raise errors.overloaded(
                    f"the bodies of requests {who} that are being served may take {most} bytes, "
                    "and this one would take more than is left; nothing of it was done: send it "
                    "again after the delay, or fewer at once",
                    _WAIT_S,
                )
        self._total += size
        self._taken[project] += size

    def give(self, project: str, size: int) -> None:
        """Ends what was taken."""
        self._total -= size
        self._taken[project] -= size
        if not self._taken[project]:
            del self._taken[project]


class HttpCall:
    """One request. `close` gives back the memory that it took.

    `part` is what stands in its path for a {}. Without a media type it has no body.
    """

    def __init__(
        self, scope: Scope, receive: Receive, media_type: str, room: BodyRoom, part: str = ""
    ) -> None:
        self._receive, self._media_type, self._room = receive, media_type, room
        self._project, self._taken = "", 0
        self._query: bytes = scope["query_string"]
        self.part = part
        self.headers: Mapping[str, str] = {
            key.decode("latin-1"): value.decode("latin-1") for key, value in scope["headers"]
        }
        self.metadata: Sequence[tuple[str, str | bytes]] = ()
        """What goes with the answer."""
        self.http_status = 0
        """Of a failure for which HTTP has a better word than for its code; else 0."""

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        """The headers. A key may come by itself as well, as X-API-Key."""
        key = self.headers.get(_KEY)
        bearer = () if key is None or _BEARER in self.headers else ((_BEARER, f"Bearer {key}"),)
        return (*self.headers.items(), *bearer)

    @property
    def query(self) -> Mapping[str, str]:
        """The parameters of the URL, each with its last value."""
        text = self._query.decode("latin-1")
        return dict(parse_qsl(text, keep_blank_values=True)) if text else {}

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
        self._room.give(self._project, self._taken)

    async def body(self, project: str) -> bytes:
        """The whole body, decompressed, in the room of the project that sends it.

        Raises INVALID_ARGUMENT for what is not of the media type or not decodable,
        RESOURCE_EXHAUSTED for what is too large, DEADLINE_EXCEEDED for what comes too slowly, and
        GoneError.
        """
        if not self._media_type:
            return b""
        self._project = project
        encoding = self._encoding()
        announced = self.headers.get("content-length", "")
        if announced.isascii() and announced.isdigit():
            self._require_size(int(announced))
        body = await self._read()
        return self._decompressed(body) if encoding == "gzip" else body

    def _encoding(self) -> str:
        media_type = self.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media_type != self._media_type:
            raise self._as(
                _UNSUPPORTED, errors.invalid("content-type", media_type, self._media_type)
            )
        encoding = self.headers.get("content-encoding", "identity").strip().lower()
        if encoding not in {"identity", "gzip"}:
            raise self._as(
                _UNSUPPORTED, errors.invalid("content-encoding", encoding, "gzip, or none")
            )
        return encoding

    async def _read(self) -> bytes:
        body, more = bytearray(), True
        limits = self._room.limits
        while more:
            wanted = len(body) + limits.part_bytes
            try:
                async with asyncio.timeout(limits.part_s):
                    while more and len(body) < wanted:
                        more = await self._read_into(body)
            except TimeoutError as error:
                raise _too_slow(len(body), limits) from error
        return bytes(body)

    async def _read_into(self, body: bytearray) -> bool:
        """Whether there is more."""
        event = await self._receive()
        if event["type"] == "http.disconnect":
            raise GoneError
        part = event.get("body", b"")
        self._require_size(len(body) + len(part))
        self._take(len(part))
        body += part
        return bool(event.get("more_body", False))

    def _decompressed(self, body: bytes) -> bytes:
        limit = self._room.limits.body_bytes
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
        limit = self._room.limits.body_bytes
        if size > limit:
            raise self._as(_TOO_LARGE, errors.limit_exceeded("bytes of the body", size, limit))

    def _take(self, size: int) -> None:
        self._room.take(self._project, size)
        self._taken += size

    def _as(self, http_status: int, error: DomainError) -> DomainError:
        self.http_status = http_status
        return error


class ReceiveBody:
    """A check: reads the body of an HTTP request, whose caller is admitted by now."""

    async def __call__(self, rpc: Rpc) -> None:
        """Raises what HttpCall.body raises."""
        if rpc.call is None:
            raise RuntimeError("the body of an unknown caller is not read")
        rpc.body = await rpc.context.body(rpc.call.caller.project)


def _too_slow(size: int, limits: BodyLimits) -> DomainError:
    return DomainError(
        Code.DEADLINE_EXCEEDED,
        "DEADLINE_EXCEEDED",
        f"the body stopped after {size} bytes: within {limits.part_s:g} s the next "
        f"{limits.part_bytes} bytes must come, or the rest; send the request again, compressed or "
        "in smaller parts when the connection is slow",
    )


def _not_gzip(body: bytes) -> DomainError:
    return errors.invalid("body", f"{len(body)} bytes", "one complete gzip member")
