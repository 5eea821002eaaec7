"""The streams that anybody may open without a credential are few, so that they shut nobody out."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc

from shared.server.rpc import Context

MAX_PUBLIC_STREAMS = 64


class PublicStreams:
    """Counts open streams of the public services of one server."""

    def __init__(self) -> None:
        self._open = 0

    def wrap(self, handler: Any) -> Any:
        """The handler, bounded when it streams."""
        if handler.unary_stream is not None:
            return handler._replace(unary_stream=self._bounded(handler.unary_stream))
        if handler.stream_stream is not None:
            return handler._replace(stream_stream=self._bounded(handler.stream_stream))
        return handler

    def _bounded(self, inner: Any) -> Any:
        async def write(request: Any, context: Context) -> None:
            async with self._place(context):
                await inner(request, context)

        async def generate(request: Any, context: Context) -> AsyncIterator[Any]:
            async with self._place(context):
                async for response in inner(request, context):
                    yield response

        return generate if inspect.isasyncgenfunction(inner) else write

    @asynccontextmanager
    async def _place(self, context: Context) -> AsyncIterator[None]:
        if self._open >= MAX_PUBLIC_STREAMS:
            await context.abort(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"{MAX_PUBLIC_STREAMS} health watches and reflection streams are open; at most "
                "that many are: close one, or poll Check instead",
            )
        self._open += 1
        try:
            yield
        finally:
            self._open -= 1
