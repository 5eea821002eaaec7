"""From servicers to a running server, and back to nothing without losing a call."""

from __future__ import annotations

import asyncio
import datetime as dt
import gc
import logging
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.message import Message
from pydantic import ValidationError

from shared.clock import Clock
from shared.errors import DomainError
from shared.ids import IdGenerator
from shared.security.audit import AuditKeys
from shared.security.authentication import Authenticator
from shared.security.kept_keys import KeptKeys
from shared.server.capacity import Capacity
from shared.server.checks import Authenticate, Authorise, Check, Parse, Validate
from shared.server.denials import DenialRecorder
from shared.server.guard import Guard, Policy
from shared.server.health import DrainingHealth, add_standard_services, watch_readiness
from shared.server.http import HttpDoor
from shared.server.http_application import HttpApplication
from shared.server.http_call import BodyLimits, BodyRoom, ReceiveBody
from shared.server.http_listener import HttpListener
from shared.server.http_places import places
from shared.server.options import server_options
from shared.server.rules import Rule, rule_of
from shared.server.tls import add_port
from shared.settings import ServiceName, ServiceSettings, settings_error
from shared.state.database import Database
from shared.telemetry import start_logging, start_telemetry
from shared.version import VERSION

_LOG = logging.getLogger("touchstone.server")
_THREADS = 16
_ALLOCATIONS_PER_COLLECTION = 20_000
# How many of the largest bodies are in memory at once, and how many of those are one project's.
_HTTP_BODIES, _HTTP_BODIES_OF_PROJECT = 16, 4


@dataclass(frozen=True, slots=True)
class Servicer:
    """One gRPC service: its full name, its implementation, and the generated function that adds
    it to a server.

    `rules`, by the name of the RPC, stand in place of the contract's: a contract that is not ours
    has none, and ours do not say which RPCs are decoded by their handlers.
    """

    name: str
    implementation: object
    register: Callable[[Any, grpc.aio.Server], None]
    rules: Mapping[str, Rule] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Platform:
    """What every service gets from its surroundings."""

    database: Database
    audit_keys: AuditKeys
    clock: Clock
    ids: IdGenerator


@dataclass(frozen=True, slots=True)
class SideDoor:
    """A port of its own for clients that cannot present a credential. It serves these servicers
    and nothing else; `admit` says whose call it is instead, from the request that it can see.
    """

    address: str
    setting: str
    """The setting that the address comes from."""
    servicers: Sequence[Servicer]
    admit: Check


@dataclass(frozen=True, slots=True)
class Application:
    """A composed service. `start` runs before the first call, `stop` after the last one; `ready`
    tells whether the service can keep its promise at this moment. `http` is its door for HTTP,
    `side_door` the one without credentials.
    """

    service: ServiceName
    settings: ServiceSettings
    platform: Platform
    servicers: Sequence[Servicer]
    start: Callable[[], Awaitable[None]] | None = None
    stop: Callable[[], Awaitable[None]] | None = None
    ready: Callable[[], bool] = field(default=lambda: True)
    http: HttpDoor | None = None
    kept_keys: Path | None = None
    """The file of keys by which it starts while the state database is away; None: it does not."""
    side_door: SideDoor | None = None


def run(compose: Callable[[], Application]) -> None:
    """Composes a service and serves it until SIGTERM or SIGINT. The whole of every `__main__`.

    Ends the process with status 1 and one line on standard error when it cannot start.
    """
    try:
        try:
            application = compose()
            asyncio.run(_serve(application))
        except ValidationError as error:
            raise settings_error(error) from error
    except DomainError as error:
        sys.exit(f"error: {error.message}")


async def _serve(application: Application) -> None:
    start_logging(application.service, application.settings.log_level)
    start_telemetry(application.service, VERSION)
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(_THREADS))
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    running = await start_server(application)
    _leave_alone_what_stays()
    await stopping.wait()
    await running.drain()


def _leave_alone_what_stays() -> None:
    """The garbage collector need not look again and again at modules and what was composed: with
    half a million objects a look takes as long as a hundred calls.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_ALLOCATIONS_PER_COLLECTION)


@dataclass(frozen=True, slots=True)
class Access:
    """What decides who gets in and remembers who did not; each has threads of its own."""

    authenticator: Authenticator
    denials: DenialRecorder

    def close(self) -> None:
        """Lets go of the threads."""
        self.authenticator.close()
        self.denials.close()


@dataclass(frozen=True, slots=True)
class RunningServer:
    """A server that answers."""

    application: Application
    server: grpc.aio.Server
    access: Access
    health: DrainingHealth
    draining: asyncio.Event
    readiness: asyncio.Task[None]
    address: str
    http: HttpListener | None = None
    side_server: grpc.aio.Server | None = None
    side_address: str = ""

    async def drain(self) -> None:
        """Stops without losing a call: not ready at once, no new calls after the lame-duck time,
        those in flight get the grace period, then the service itself stops.
        """
        settings = self.application.settings
        _LOG.info("draining")
        self.readiness.cancel()
        await self.health.enter_graceful_shutdown()
        await asyncio.sleep(settings.drain_lame_duck_s)
        self.draining.set()
        await asyncio.gather(
            self.server.stop(settings.drain_grace_s),
            *([self.http.stop()] if self.http else []),
            *([self.side_server.stop(settings.drain_grace_s)] if self.side_server else []),
        )
        if self.application.stop:
            await self.application.stop()
        self.access.close()
        self.application.platform.database.close()
        _LOG.info("stopped")


async def start_server(application: Application) -> RunningServer:
    """Starts a composed service.

    Raises FAILED_PRECONDITION when one of its ports cannot be taken.
    """
    platform, settings = application.platform, application.settings
    access = Access(
        _authenticator(application),
        DenialRecorder(platform.database, platform.audit_keys, platform.clock),
    )
    # A port that is not to be had is found out before anything else is made.
    http = HttpListener(application.http, settings) if application.http else None
    draining = asyncio.Event()
    server = make_server(application, access, draining)
    names = [servicer.name for servicer in application.servicers]
    health = add_standard_services(server, names, draining)
    door = application.side_door
    side = _side_server(application, door, access, draining) if door else None
    try:
        address, side_address = _take_ports(application, server, side)
    except DomainError:
        if http:
            http.release()
        raise
    if application.start:
        await application.start()
    await server.start()
    if side:
        await side.start()
    if http:
        await http.start(_http_application(application, access, draining))
    running = RunningServer(
        application=application,
        server=server,
        access=access,
        health=health,
        draining=draining,
        readiness=asyncio.create_task(watch_readiness(application.ready, health, ["", *names])),
        address=address,
        http=http,
        side_server=side,
        side_address=side_address,
    )
    _log_listening(running)
    return running


def _log_listening(running: RunningServer) -> None:
    _LOG.info(
        "listening",
        extra={
            "address": running.address,
            "http": running.http.address if running.http else "",
            "side": running.side_address,
            "version": VERSION,
        },
    )


def _authenticator(application: Application) -> Authenticator:
    platform, settings = application.platform, application.settings
    kept = application.kept_keys
    return Authenticator(
        platform.database,
        platform.clock,
        settings.credential_cache_s,
        dt.timedelta(seconds=settings.credential_outage_s),
        KeptKeys(kept) if kept else None,
    )


def _take_ports(
    application: Application, server: grpc.aio.Server, side: grpc.aio.Server | None
) -> tuple[str, str]:
    settings, service, door = application.settings, application.service, application.side_door
    address = add_port(server, settings, settings.address(service), f"{service}_address")
    if side is None or door is None:
        return address, ""
    return address, add_port(side, settings, door.address, door.setting)


def make_server(
    application: Application, access: Access, draining: asyncio.Event
) -> grpc.aio.Server:
    """A server of these servicers, guarded, with every option set. It has no port yet."""
    guard = _guard(application, access, draining, [])
    return _guarded_server(application.settings, guard, application.servicers)


def _side_server(
    application: Application, door: SideDoor, access: Access, draining: asyncio.Event
) -> grpc.aio.Server:
    """The server of a side door: no health, no reflection, and no more calls than elsewhere."""
    methods = _methods(door.servicers)
    parse = Parse({name: request for name, (request, _) in methods.items()})
    policy = Policy(
        # Whose call it is may stand in the request.
        checks=[parse, door.admit, Authorise(), Validate()],
        rules={name: rule for name, (_, rule) in methods.items()},
        default_call_s=application.settings.default_call_s,
        draining=draining,
        capacity=_capacity(application.settings),
    )
    guard = Guard(policy, access.denials, application.platform.ids)
    return _guarded_server(application.settings, guard, door.servicers)


def _guarded_server(
    settings: ServiceSettings, guard: Guard, servicers: Sequence[Servicer]
) -> grpc.aio.Server:
    server = grpc.aio.server(
        interceptors=[guard],
        options=server_options(settings.max_message_bytes),
        maximum_concurrent_rpcs=_capacity(settings).transport,
    )
    for servicer in servicers:
        servicer.register(servicer.implementation, server)
    return server


def _capacity(settings: ServiceSettings) -> Capacity:
    return Capacity(settings.max_concurrent_rpcs, settings.max_watches)


def _http_application(
    application: Application, access: Access, draining: asyncio.Event
) -> HttpApplication:
    """The same servicers behind HTTP, as far as the application's door has routes to them."""
    settings, door = application.settings, application.http
    assert door is not None
    guard = _guard(application, access, draining, [ReceiveBody()])
    served = {servicer.name: servicer.implementation for servicer in application.servicers}
    rpcs = {}
    for route in door.routes:
        service, method = route.rpc.strip("/").split("/")
        rpcs[route.rpc] = getattr(served[service], method)
    limits = BodyLimits(
        body_bytes=settings.max_message_bytes,
        project_bytes=_HTTP_BODIES_OF_PROJECT * settings.max_message_bytes,
        total_bytes=_HTTP_BODIES * settings.max_message_bytes,
        part_s=door.limits.body_part_s,
        part_bytes=door.limits.body_part_bytes,
    )
    behind = places(door, rpcs, guard)
    return HttpApplication(behind, BodyRoom(limits), settings.max_concurrent_rpcs)


def _guard(
    application: Application,
    access: Access,
    draining: asyncio.Event,
    receiving: Sequence[Check],
) -> Guard:
    """The guard of every call. `receiving` is for a transport that hands over the body later."""
    methods = _methods(application.servicers)
    rules: dict[str, Rule | None] = {name: rule for name, (_, rule) in methods.items()}
    rules |= application.http.rules if application.http else {}
    admitting: list[Check] = [Authenticate(access.authenticator), Authorise()]
    policy = Policy(
        checks=[
            *admitting,
            *receiving,
            Parse({name: request for name, (request, _) in methods.items()}),
            Validate(),
        ],
        rules=rules,
        default_call_s=application.settings.default_call_s,
        draining=draining,
        capacity=_capacity(application.settings),
        rechecks=admitting,
    )
    return Guard(policy, access.denials, application.platform.ids)


def _methods(servicers: Sequence[Servicer]) -> dict[str, tuple[type[Message], Rule | None]]:
    found = {}
    for servicer in servicers:
        service = descriptor_pool.Default().FindServiceByName(servicer.name)
        for method in service.methods:
            request = message_factory.GetMessageClass(method.input_type)
            rule = servicer.rules.get(method.name) or rule_of(method)
            found[f"/{service.full_name}/{method.name}"] = (request, rule)
    return found
