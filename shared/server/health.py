"""Standard health: the process is live while it answers, ready while it can keep its promise."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
from grpc_health.v1 import health_pb2
from grpc_health.v1.health import aio as health_aio

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class DrainingHealth(health_aio.HealthServicer):  # type: ignore[misc]  # untyped package
    """The standard servicer, whose watches end when the server drains: one that stays open would
    hold up the whole grace period.
    """

    def __init__(self, draining: asyncio.Event) -> None:
        super().__init__()
        self._draining = draining

    async def Watch(self, request: Any, context: Any) -> None:  # noqa: N802  the RPC's name
        """Sends the status of a service whenever it changes, until the server drains."""
        watching = asyncio.ensure_future(super().Watch(request, context))
        draining = asyncio.ensure_future(self._draining.wait())
        try:
            await asyncio.wait({watching, draining}, return_when=asyncio.FIRST_COMPLETED)
            if draining.done():
                await context.abort(grpc.StatusCode.UNAVAILABLE, "the server is draining")
            await watching
        finally:
            draining.cancel()
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
