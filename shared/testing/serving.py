"""Servers of the kit within a test's own process, each on a free port with a folder of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from shared.security.bootstrap import make_owner_key
from shared.security.caller import Role
from shared.security.keys import NewKey, SqlKeyStore, make_key
from shared.server.platform import open_platform
from shared.server.run import Application, Platform, RunningServer, Servicer, start_server
from shared.settings import ServiceSettings
from shared.testing.ports import free_port

Metadata = tuple[tuple[str, str], ...]


def bearer(key: str) -> Metadata:
    """The metadata that presents a key."""
    return (("authorization", f"Bearer {key}"),)


def add_key(platform: Platform, project: str, *roles: Role, **changes: Any) -> NewKey:
    """Stores a new key of the project, which is made when it is new."""
    now = platform.clock.now()
    new = make_key(platform.ids, project, "test", frozenset(roles), now, **changes)
    with platform.database.begin() as connection:
        keys = SqlKeyStore(connection)
        if not keys.has_project(project):
            keys.add_project(project, now)
        keys.add(new.key)
    return new


@dataclass(frozen=True, slots=True)
class Served:
    """A server that answers, a channel to it and the metadata of an owner of the project demo."""

    running: RunningServer
    channel: grpc.aio.Channel
    owner: Metadata

    @property
    def platform(self) -> Platform:
        """What the server stands on."""
        return self.running.application.platform


def application(
    folder: Path, servicers: Sequence[Servicer], platform: Platform | None = None, **settings: Any
) -> Application:
    """An application of the servicers over a folder, on a free port."""
    defaults: dict[str, Any] = {"data": folder, "assignment_address": f"127.0.0.1:{free_port()}"}
    chosen = ServiceSettings(**(defaults | settings))
    return Application("assignment", chosen, platform or open_platform(chosen), servicers)


@asynccontextmanager
async def serving(application: Application) -> AsyncIterator[Served]:
    """The application, served in this process until the end of the block."""
    platform = application.platform
    owner = make_owner_key(
        platform.database, platform.audit_keys, platform.clock, platform.ids, "demo"
    )
    running = await start_server(application)
    async with grpc.aio.insecure_channel(running.address) as channel:
        yield Served(running, channel, bearer(owner.text))
    await running.drain()
