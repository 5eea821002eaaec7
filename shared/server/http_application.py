"""Answers the requests of a door, each as a call of what is found at its path."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping, Sequence
from typing import Any

from shared.errors import overloaded
from shared.server.http_call import BodyRoom, EndedError, GoneError, HttpCall, Receive, Scope
from shared.server.http_places import Answer, Place, StreamPlace
from shared.server.status import to_status

_WAIT_S = 1.0
_ANY = "{}"
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class HttpApplication:
    """The ASGI application, of HTTP only.

    At most `max_calls` are served at once; streams are not among them, and are bounded by those
    who give them.
    """

    def __init__(self, places: Sequence[Place], room: BodyRoom, max_calls: int) -> None:
        self._places = {p.path: p for p in places if not p.path.endswith(_ANY)}
        self._folders = {p.path[: -len(_ANY)]: p for p in places if p.path.endswith(_ANY)}
        self._room = room
        self._calls_left = max_calls

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        place, part = self._find(scope["path"])
        if place is None:
            paths = ", ".join(sorted([*self._places, *(f + _ANY for f in self._folders)]))
            await _send(send, _text(404, f"no such path; there is: {paths}"))
        elif scope["method"] != place.verb:
            allow = (b"allow", place.verb.encode())
            await _send(send, _text(405, f"only {place.verb} is allowed here", allow))
        else:
            call = HttpCall(scope, receive, place.media_type, self._room, part)
            try:
                await self._serve(place, call, receive, send)
            except GoneError:
                return
            finally:
                call.close()

    def _find(self, path: str) -> tuple[Place | None, str]:
        """What is at the path, and the part of it that stands for {}."""
        folder, slash, part = path.rpartition("/")
        found = self._folders.get(folder + slash) if part else None
        return (found, part) if found else (self._places.get(path), "")

    async def _serve(self, place: Any, call: HttpCall, receive: Receive, send: Send) -> None:
        if isinstance(place, StreamPlace):
            await _while_there(receive, _stream(place, call, send))
        else:
            await _send(send, await self._answer(place, call))

    async def _answer(self, place: Any, call: HttpCall) -> Answer:
        if not self._calls_left:
            error = overloaded("too many calls at once; send this one again", _WAIT_S)
            failure: Answer = place.failure(call, to_status(error, ""))
            return failure
        self._calls_left -= 1
        try:
            answer: Answer = await place.answer(call)
        except EndedError as ended:
            answer = place.failure(call, ended.status)
        finally:
            self._calls_left += 1
        return answer


async def _stream(place: StreamPlace, call: HttpCall, send: Send) -> None:
    parts = place.handler(b"", call)
    started = False
    try:
        async for part in parts:
            if not started:
                started = True
                start = {"type": "http.response.start", "status": 200}
                await send({**start, "headers": place.start(call)})
            await send({"type": "http.response.body", "body": part, "more_body": True})
    except EndedError as ended:
        if not started:
            await _send(send, place.failure(call, ended.status))
            return
    finally:
        await _closed(parts)
    if started:
        await send({"type": "http.response.body", "body": b""})


async def _closed(parts: AsyncIterator[bytes]) -> None:
    close = getattr(parts, "aclose", None)
    if close is not None:
        await close()


async def _while_there(receive: Receive, serving: Any) -> None:
    """Serves until it has an end, or the client is gone: nothing else tells of that."""
    served = asyncio.ensure_future(serving)
    gone = asyncio.ensure_future(_gone(receive))
    try:
        await asyncio.wait({served, gone}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (gone, served):
            task.cancel()
        ends = await asyncio.gather(served, gone, return_exceptions=True)
    for end in ends:
        if isinstance(end, Exception):
            raise end


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _text(status: int, text: str, *headers: tuple[bytes, bytes]) -> Answer:
    return Answer(status, [(b"content-type", b"text/plain"), *headers], f"{text}\n".encode())


async def _send(send: Send, answer: Answer) -> None:
    headers = [*answer.headers]
    if answer.status != 304:
        headers.append((b"content-length", str(len(answer.body)).encode()))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})
