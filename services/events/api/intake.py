"""The one way for events into the log, whatever door they came through."""

from collections.abc import Callable
from dataclasses import dataclass

from touchstone.events.v1 import events_service_pb2

from services.events.application.admission import Admission, Begin
from services.events.application.fair_turns import FairTurns
from services.events.application.log_events import EventLog, LogEvents, Logged, beside, log_events
from services.events.wire.columns import FEW, EventDecoder
from shared.server.validation import RequestValidator

MOST_EVENTS = 5000
ITEMS = "events"


@dataclass(frozen=True, slots=True)
class Intake:
    """Judges events by the contract and stores the good ones."""

    admission: Admission
    event_log: EventLog
    validator: RequestValidator
    decoder: EventDecoder
    count: Callable[[Logged], None]
    turns: FairTurns
    """One for each heavy request at a time."""

    async def log_events(
        self, project: str, request: events_service_pb2.LogEventsRequest
    ) -> Logged:
        """Store the events of a project that are good and new; durable on return.

        INVALID_ARGUMENT when the request itself, not only an event of it, breaks the contract;
        RESOURCE_EXHAUSTED when too much is sent or in work.
        """
        if not 1 <= len(request.events) <= MOST_EVENTS:
            self.validator.check(request, ITEMS)
        return await self.admission.patiently(lambda begin: self._admitted(project, request, begin))

    async def _admitted(
        self, project: str, request: events_service_pb2.LogEventsRequest, begin: Begin
    ) -> Logged:
        size = request.ByteSize()
        with self.admission.admit(project, len(request.events), size):
            if size <= self.event_log.limits.inline_bytes:
                begin()
                return await self.log_admitted(project, request, heavy=False)
            async with self.turns.of(project):
                begin()
                return await self.log_admitted(project, request, heavy=True)

    async def log_admitted(
        self, project: str, request: events_service_pb2.LogEventsRequest, heavy: bool
    ) -> Logged:
        """The same within what was admitted already; `heavy` within a turn of the project."""
        # Only heavy batches have waited for their turn at these.
        threads = self.event_log.threads if heavy else None
        decoded = await beside(heavy, lambda: self.decoder.by_columns(request), threads)
        others = decoded.undecided
        if others:
            # Each takes as long as many that are certain.
            alone = await beside(
                heavy or len(others) > FEW,
                lambda: self.decoder.one_by_one(request.events, others),
                threads,
            )
            decoded = decoded.with_others(alone)

        def sent(place: int) -> tuple[str, bytes]:
            event = request.events[place]
            # Without an order of its map entries the same event would be kept again and again.
            return event.source[:128], event.SerializeToString(deterministic=True)

        command = LogEvents(project, decoded.portions, decoded.rejected, sent, heavy)
        logged = await log_events(command, self.event_log)
        self.count(logged)
        return logged
