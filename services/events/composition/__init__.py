"""Choose the adapters of the events service and join them."""

import asyncio
from collections.abc import Callable

from touchstone.events.v1 import events_service_pb2_grpc

from services.events.adapters.window_rebuild import rebuild
from services.events.api.log import EventsServicer
from services.events.composition.backup import backup_kind, backup_servicer, open_backups
from services.events.composition.core import Core, FillWindow, open_core, unchanged
from services.events.composition.erasure import Erasures
from services.events.composition.identity import identity_servicer
from services.events.composition.operations import events_operations_servicer, open_operations
from services.events.composition.otlp import otlp_http, otlp_servicer
from services.events.composition.rejected import rejected_servicer
from services.events.composition.retention import retention_servicer
from services.events.ports import Journal
from services.events.settings import Settings
from shared.server.run import Application, Servicer

SERVICE = "touchstone.events.v1.EventsService"


def compose(
    settings: Settings,
    decorate: Callable[[Journal], Journal] = unchanged,
    fill_window: FillWindow = rebuild,
) -> Application:
    """The events service with all its doors; see `open_core` for the parameters."""
    core = open_core(settings, decorate, fill_window)
    backups = open_backups(core)
    erasures = Erasures(core)
    runner = open_operations(core, [backup_kind(core, backups), *erasures.kinds()])

    async def start() -> None:
        await core.start()
        # Before anybody can read what was erased and came back with a backup.
        await asyncio.to_thread(erasures.begin_replays, runner)
        runner.start()

    async def stop() -> None:
        # What operations change needs the core.
        await asyncio.to_thread(runner.close)
        await core.stop()

    return Application(
        service="events",
        settings=settings,
        platform=core.platform,
        servicers=[
            log_servicer(core),
            otlp_servicer(core),
            rejected_servicer(core),
            identity_servicer(core),
            backup_servicer(core, backups, runner),
            events_operations_servicer(core, runner),
            erasures.servicer(runner),
            retention_servicer(core),
        ],
        start=start,
        stop=stop,
        http=otlp_http(core),
        ready=lambda: core.ready() and erasures.ready,
    )


def log_servicer(core: Core) -> Servicer:
    """EventsService."""
    servicer = EventsServicer(core.intake, core.journal.id, lambda: core.sink.watermark)
    return Servicer(SERVICE, servicer, events_service_pb2_grpc.add_EventsServiceServicer_to_server)
