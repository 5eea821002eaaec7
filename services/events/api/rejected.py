"""RejectedEventsService: decode, handle, encode."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from touchstone.events.v1 import events_service_pb2, rejected_events_service_pb2_grpc
from touchstone.events.v1 import rejected_events_service_pb2 as pb

from services.events.api.intake import Intake
from services.events.application.fair_turns import FairTurns
from services.events.application.log_events import Logged
from services.events.application.replay_rejected import Item, Replay, Replayed, replay_rejected
from services.events.domain.rejection import Wanted
from services.events.ports import RejectedEvents
from services.events.wire.rejected import (
    decode_filter,
    decode_items,
    encode_kept,
    encode_result,
    encode_whole,
    number_in,
    parse_event,
)
from shared import errors
from shared.lake.watermark import ConsistencyToken
from shared.mutations import Mutation, Mutations
from shared.resource_names import require_parent
from shared.security.caller import current_caller
from shared.state.paging import Page, read_page

Done = TypeVar("Done")
MOST_REPLAYED = 500
_NUMBER = r"([0-9]{1,18})"


@dataclass(frozen=True, slots=True)
class IntakeDoor:
    """See replay_rejected.Door: the way of every other event, from a thread."""

    intake: Intake
    loop: asyncio.AbstractEventLoop

    def readable(self, payload: bytes) -> bool:
        """See Door."""
        return parse_event(payload) is not None

    def log(self, project: str, payloads: Sequence[bytes]) -> Logged:
        """See Door."""
        request = events_service_pb2.LogEventsRequest()
        for payload in payloads:
            request.events.add().ParseFromString(payload)
        logging = self.intake.log_events(project, request)
        return asyncio.run_coroutine_threadsafe(logging, self.loop).result()


@dataclass(frozen=True, slots=True)
class RejectedEventsServicer(rejected_events_service_pb2_grpc.RejectedEventsServiceServicer):
    """See touchstone/events/v1/rejected_events_service.proto.

    `again` is the intake without a store of rejected events, and `trial` one that stores nothing.
    """

    store: RejectedEvents
    mutations: Mutations
    journal_id: str
    again: Intake
    trial: Callable[[], AbstractContextManager[Intake]]
    turns: FairTurns = field(default_factory=lambda: FairTurns(1))
    """Replays wait for the log in a thread of those that all share: one at a time, and the projects
    take turns.
    """

    async def ListRejectedEvents(
        self, request: pb.ListRejectedEventsRequest, _context: Any
    ) -> pb.ListRejectedEventsResponse:
        """List them, newest first."""
        project = current_caller().project
        require_parent(request.parent, project)
        page = read_page(request, project)
        below, wanted = _number_of(page), decode_filter(request.filter)
        kept = await asyncio.to_thread(self.store.newest, project, wanted, below, page.size + 1)
        shown = kept[: page.size]
        return pb.ListRejectedEventsResponse(
            rejected_events=[encode_kept(one) for one in shown],
            next_page_token=page.token(str(shown[-1].number)) if len(kept) > len(shown) else "",
        )

    async def GetRejectedEvent(
        self, request: pb.GetRejectedEventRequest, _context: Any
    ) -> pb.GetRejectedEventResponse:
        """Show one."""
        project = current_caller().project
        number = number_in(request.name, project)
        kept = await asyncio.to_thread(self.store.get, project, [number])
        if number not in kept:
            raise errors.not_found("rejected event", request.name)
        return pb.GetRejectedEventResponse(rejected_event=encode_whole(number, kept[number]))

    async def ReplayRejectedEvents(
        self, request: pb.ReplayRejectedEventsRequest, _context: Any
    ) -> pb.ReplayRejectedEventsResponse:
        """Send them into the log again."""
        project = current_caller().project
        require_parent(request.parent, project)
        page = _page_of(request, project)
        named = decode_items(request, project)
        wanted = decode_filter(request.filter) if request.HasField("filter") else None
        loop = asyncio.get_running_loop()

        def work() -> tuple[pb.ReplayRejectedEventsResponse, list[str]]:
            selected = _Selection(self.store, project, wanted, named, page)
            if not request.validate_only:
                return self._replay(selected, IntakeDoor(self.again, loop), trial=False)
            with self.trial() as intake:
                return self._replay(selected, IntakeDoor(intake, loop), trial=True)

        async with self.turns.of(project):
            return await _to_its_end(asyncio.to_thread(self._run, request, work))

    def _run(
        self,
        request: pb.ReplayRejectedEventsRequest,
        work: Callable[[], tuple[pb.ReplayRejectedEventsResponse, list[str]]],
    ) -> pb.ReplayRejectedEventsResponse:
        """The mutation. Messages may show values of events: they are told and not remembered.

        Whoever changes the state waits for the record alone, and not for the log.
        """
        mutation = Mutation(request, request.parent, request.request_id, request.validate_only)
        earlier = self.mutations.earlier(mutation)
        if earlier is not None:
            return cast(pb.ReplayRejectedEventsResponse, earlier)
        response, told = work()
        if not request.validate_only:
            self.mutations.run(mutation, lambda _connection: response)
        for result, message in zip(response.results, told, strict=True):
            result.message = message
        return response

    def _replay(
        self, selected: "_Selection", door: IntakeDoor, trial: bool
    ) -> tuple[pb.ReplayRejectedEventsResponse, list[str]]:
        items = selected.items()
        replayed = replay_rejected(Replay(selected.project, items, trial), self.store, door)
        results = [encode_result(selected.project, result) for result in replayed.results]
        messages = [result.message for result in results]
        for result in results:
            result.message = ""
        response = pb.ReplayRejectedEventsResponse(results=results)
        selected.tell_rest(response, replayed)
        if replayed.position:
            token = ConsistencyToken(self.journal_id, replayed.position)
            response.consistency_token = token.encode()
        return response, messages


@dataclass(frozen=True, slots=True)
class _Selection:
    """The events that a call is about: by name, or by a filter a page at a time."""

    store: RejectedEvents
    project: str
    wanted: Wanted | None
    named: Sequence[Item]
    page: Page

    def items(self) -> Sequence[Item]:
        if self.wanted is None:
            return self.named
        above, most = _number_of(self.page) or 0, min(self.page.size, MOST_REPLAYED)
        return [Item(n) for n in self.store.numbers(self.project, self.wanted, above, most)]

    def tell_rest(self, response: pb.ReplayRejectedEventsResponse, replayed: Replayed) -> None:
        """What the filter applies to behind the last event that was tried."""
        tried = replayed.tried()
        if self.wanted is None or not tried:
            return
        response.remaining = self.store.count(self.project, self.wanted, tried[-1].number)
        if response.remaining:
            response.next_page_token = self.page.token(str(tried[-1].number))


async def _to_its_end(work: Coroutine[Any, Any, Done]) -> Done:
    """The result of work in a thread. Whoever gives up waiting for it leaves when it has ended:
    until then the turn is taken.
    """
    task = asyncio.create_task(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        while not task.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait((task,))
        raise


def _page_of(request: pb.ReplayRejectedEventsRequest, project: str) -> Page:
    """Each call has a request id of its own; the page token is bound to the rest."""
    bound = pb.ReplayRejectedEventsRequest()
    bound.CopyFrom(request)
    bound.ClearField("request_id")
    return read_page(bound, project)


def _number_of(page: Page) -> int | None:
    place = page.place(_NUMBER)
    return int(place[0]) if place else None
