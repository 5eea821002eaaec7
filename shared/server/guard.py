"""Everything that surrounds a handler, for every RPC of every service alike.

    observe (log line, metric, trace, error mapping)
      deadline
        authenticate -> authorise -> parse -> validate
          handler

A handler is written as if nothing could go wrong: it gets a valid request of a known caller, and
raises DomainError.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.message import Message
from opentelemetry import propagate, trace

from shared.errors import Code, DomainError
from shared.ids import IdGenerator
from shared.server.capacity import Capacity
from shared.server.checks import Check
from shared.server.denials import DenialRecorder
from shared.server.public import PublicStreams
from shared.server.rpc import Context, Rpc, receive
from shared.server.rules import PUBLIC, Rule
from shared.server.status import REQUEST_ID, to_status
from shared.server.watch import Watches
from shared.telemetry import duration_histogram

_ACCESS = logging.getLogger("touchstone.access")
_ERRORS = logging.getLogger("touchstone.errors")

Handler = Any  # grpc.RpcMethodHandler, which is generic only to type checkers
Continuation = Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]]


@dataclass(frozen=True, slots=True)
class Policy:
    """How the guard treats calls."""

    checks: Sequence[Check]
    rules: dict[str, Rule | None]
    default_call_s: float
    draining: asyncio.Event
    """Set when the server shuts down: watches end then."""
    capacity: Capacity
    rechecks: Sequence[Check] = ()
    """Those of the checks that a watch has to pass again and again."""


class Guard(grpc.aio.ServerInterceptor):
    """Wraps the handler of every RPC; of the public services it only bounds the streams."""

    def __init__(self, policy: Policy, denials: DenialRecorder, ids: IdGenerator) -> None:
        self._policy = policy
        self._denials = denials
        self._ids = ids
        self._durations = duration_histogram()
        self._tracer = trace.get_tracer("touchstone")
        # Spans that nobody exports would cost a fifth of all that surrounds a handler.
        self._traces = not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)
        self._public = PublicStreams()
        self._watches = Watches(policy.draining)
        # By method, not by handler: another interceptor may return a new handler for each call.
        self._wrapped: dict[str, Handler] = {}

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> Handler | None:
        """The guarded handler of the method."""
        method = handler_call_details.method
        if method in self._wrapped:
            return self._wrapped[method]
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        if method in PUBLIC:
            self._wrapped[method] = self._public.wrap(handler)
        else:
            self._wrapped[method] = self._wrap(method, handler)
        return self._wrapped[method]

    def _wrap(self, method: str, handler: Handler) -> Handler:
        if handler.unary_unary is not None:
            return grpc.unary_unary_rpc_method_handler(
                self.unary(method, handler.unary_unary),
                response_serializer=_bytes_or(handler.response_serializer),
            )
        if handler.unary_stream is not None:
            return grpc.unary_stream_rpc_method_handler(
                self.stream(method, handler.unary_stream),
                response_serializer=_bytes_or(handler.response_serializer),
            )
        raise TypeError(f"{method} streams requests; the suite has no such RPC")

    def unary(self, method: str, inner: Any) -> Any:
        """The guarded form of a handler: called with the request's bytes and the call's context."""

        async def call(body: bytes, context: Context) -> Message | bytes:
            rpc = self._receive(method, body, context)
            del body  # the frame of a failed call outlives it; see _Observed
            async with _Observed(self, rpc), asyncio.timeout(self._time_left(rpc)):
                with self._policy.capacity.one(rpc.rule):
                    response: Message | bytes = await inner(await self._admit(rpc), context)
                    return response
            raise AssertionError("an observed call returns or raises")

        return call

    def stream(self, method: str, inner: Any) -> Any:
        """The same of a handler that answers with many messages."""

        async def call(body: bytes, context: Context) -> AsyncIterator[Message | bytes]:
            rpc = self._receive(method, body, context)
            del body
            async with _Observed(self, rpc), asyncio.timeout(self._time_left(rpc)):
                with self._policy.capacity.one(rpc.rule):
                    request = await self._admit(rpc)
                    with self._policy.capacity.of_project(rpc.rule, _project(rpc)):
                        responses = inner(request, context)
                        del request
                        if rpc.rule and rpc.rule.watch:
                            responses = self._watches.watched(
                                responses, lambda: self._check(rpc, rechecks)
                            )
                        async for response in responses:
                            yield response

        rechecks = self._policy.rechecks
        return call

    def _receive(self, method: str, body: bytes, context: Context) -> Rpc:
        return receive(method, self._policy.rules.get(method), body, context, self._ids)

    def _time_left(self, rpc: Rpc) -> float | None:
        asked: float | None = rpc.context.time_remaining()
        if rpc.rule and rpc.rule.watch:
            return asked
        allowed = (rpc.rule and rpc.rule.max_duration_s) or self._policy.default_call_s
        return allowed if asked is None else min(allowed, asked)

    async def _check(self, rpc: Rpc, checks: Sequence[Check]) -> None:
        for check in checks:
            await check(rpc)

    async def _admit(self, rpc: Rpc) -> Message | bytes:
        await self._check(rpc, self._policy.checks)
        if rpc.request is None:
            raise RuntimeError("no check parsed the request")
        return rpc.request

    async def fail(self, rpc: Rpc, error: BaseException) -> DomainError:
        """The error that the caller is told of, whatever went wrong."""
        if isinstance(error, DomainError):
            await self._denials.record(rpc, error)
            return error
        if isinstance(error, TimeoutError):
            return DomainError(
                Code.DEADLINE_EXCEEDED,
                "DEADLINE_EXCEEDED",
                "the call took longer than its deadline or the server's limit for it; ask for "
                "less at once, or allow more time",
            )
        _ERRORS.error(
            "handler failed",
            exc_info=(type(error), error, error.__traceback__),
            extra={"method": rpc.method, "request_id": rpc.request_id},
        )
        return DomainError(
            Code.INTERNAL,
            "INTERNAL",
            f"an unexpected failure; tell the operator the request id {rpc.request_id}",
        )

    def note(self, rpc: Rpc, code: str, elapsed_s: float, request_bytes: int) -> None:
        """One log line and one measurement of a finished call."""
        self._durations.record(elapsed_s, {"rpc.method": rpc.method, "rpc.status": code})
        if not _ACCESS.isEnabledFor(logging.INFO):
            return
        caller = rpc.call.caller if rpc.call else None
        _ACCESS.info(
            "rpc",
            extra={
                "method": rpc.method,
                "code": code,
                "duration_ms": round(elapsed_s * 1000, 3),
                "request_bytes": request_bytes,
                "request_id": rpc.request_id,
                "project": caller.project if caller else "",
                "key": caller.key_id if caller else "",
            },
        )

    def span(self, rpc: Rpc) -> Any:
        """The trace span of the call, a child of the caller's; nothing when none are exported."""
        if not self._traces:
            return nullcontext()
        parent = propagate.extract(rpc.metadata)
        return self._tracer.start_as_current_span(
            rpc.method.strip("/"), context=parent, kind=trace.SpanKind.SERVER
        )


class _Observed:
    """Turns what is raised in its block into a status, and notes how the call ended.

    grpc keeps the error that ends a call, the error keeps the frames that it passed, and one of
    them the call: only the garbage collector ends that. A flood of large calls that are refused
    would fill the memory until then, so that nothing large is left in it.
    """

    def __init__(self, guard: Guard, rpc: Rpc) -> None:
        self._guard = guard
        self._rpc = rpc
        self._request_bytes = len(rpc.body)
        self._start = time.perf_counter()
        self._span = guard.span(rpc)

    async def __aenter__(self) -> None:
        self._span.__enter__()
        self._rpc.context.set_trailing_metadata(((REQUEST_ID, self._rpc.request_id),))

    async def __aexit__(self, kind: object, error: BaseException | None, trace_: object) -> None:
        rpc = self._rpc
        code = "OK"
        try:
            if isinstance(error, asyncio.CancelledError | GeneratorExit):
                code = "CANCELLED"
            elif error is not None:
                failure = await self._guard.fail(rpc, error)
                code = failure.code.value
                del trace_
                _forget_frames(error)
                rpc.body, rpc.request = b"", None
                await rpc.context.abort_with_status(to_status(failure, rpc.request_id))
        finally:
            self._span.__exit__(None, None, None)
            elapsed_s = time.perf_counter() - self._start
            self._guard.note(rpc, code, elapsed_s, self._request_bytes)


def _project(rpc: Rpc) -> str:
    return rpc.call.caller.project if rpc.call else ""


def _bytes_or(serialize: Callable[[Message], bytes] | None) -> Any:
    """The serializer, for handlers that may answer with a message that is serialized already."""
    if serialize is None:
        return None
    return lambda response: response if isinstance(response, bytes) else serialize(response)


def _forget_frames(error: BaseException | None) -> None:
    """Let go of all that ran when the error was raised, and of the errors that came before it."""
    while error is not None:
        error.__traceback__ = None
        error = error.__cause__ or error.__context__
