"""Standard health: the process is live while it answers, ready while it can keep its promise."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
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

    async def Watch(  # noqa: N802  the RPC's name
        self, request: Any, context: Any
    ) -> AsyncIterator[Any]:
        """Sends the status of a service whenever it changes, until the server drains."""
        updates = super().Watch(request, context).__aiter__()
        draining = asyncio.ensure_future(self._draining.wait())
        try:
            while True:
                update = asyncio.ensure_future(updates.__anext__())
                await asyncio.wait({update, draining}, return_when=asyncio.FIRST_COMPLETED)
                if not update.done():
                    update.cancel()
                    await context.abort(grpc.StatusCode.UNAVAILABLE, "the server is draining")
                yield update.result()
        finally:
            draining.cancel()
