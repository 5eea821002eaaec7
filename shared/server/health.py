"""Standard health: the process is live while it answers, ready while it can keep its promise."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio
from grpc_reflection.v1alpha import reflection

_LOG = logging.getLogger("touchstone.server")
_READINESS_INTERVAL_S = 1.0
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


def add_standard_services(
    server: grpc.aio.Server, names: Sequence[str], draining: asyncio.Event
) -> DrainingHealth:
    """Health and reflection of the services that are named."""
    health = DrainingHealth(draining)
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    health_name = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
    reflection.enable_server_reflection([*names, health_name, reflection.SERVICE_NAME], server)
    return health


async def watch_readiness(
    ready: Callable[[], bool], health: DrainingHealth, names: Sequence[str]
) -> None:
    """Tells of each change of readiness, for ever."""
    current: bool | None = None
    while True:
        now = _is_ready(ready)
        if now != current:
            current = now
            for name in names:
                await health.set(name, SERVING if now else NOT_SERVING)
            _LOG.info("ready" if now else "not ready")
        await asyncio.sleep(_READINESS_INTERVAL_S)


def _is_ready(ready: Callable[[], bool]) -> bool:
    try:
        return ready()
    except Exception:  # noqa: BLE001  who does not know whether it is ready is not
        _LOG.exception("readiness not known")
        return False
