"""Sends batches with a few calls in flight, and again when the service asks for patience."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import grpc
from touchstone.events.v1.events_service_pb2 import LogEventsRequest, LogEventsResponse

from services.cli.failures import from_call
from services.cli.importing.batches import Batch
from shared.errors import Code, DomainError

_PASSING = frozenset((Code.UNAVAILABLE, Code.RESOURCE_EXHAUSTED, Code.DEADLINE_EXCEEDED))


@dataclass(frozen=True, slots=True)
class Patience:
    """How calls are repeated: from `first_delay_s` doubling to `max_delay_s`, unless the service
    names a delay; given up when `give_up_s` have passed in waiting.
    """

    in_flight: int = 4
    first_delay_s: float = 0.2
    max_delay_s: float = 5.0
    give_up_s: float = 120.0


class Sender:
    """Sends batches through LogEvents. Every call may be repeated: event ids make it safe."""

    def __init__(
        self,
        log_events: Callable[[LogEventsRequest], LogEventsResponse],
        patience: Patience | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._log_events = log_events
        self._patience = patience or Patience()
        self._sleep = sleep

    def send_all(self, batches: Iterable[Batch]) -> Iterator[tuple[Batch, LogEventsResponse]]:
        """Each batch with its answer, in order. Raises the error of the first that fails for
        good; those before it are acknowledged.
        """
        waiting: deque[tuple[Batch, Future[LogEventsResponse]]] = deque()
        pool = ThreadPoolExecutor(self._patience.in_flight, thread_name_prefix="log-events")
        try:
            for batch in batches:
                waiting.append((batch, pool.submit(self.send, batch)))
                while len(waiting) > self._patience.in_flight or (waiting and waiting[0][1].done()):
                    first, answer = waiting.popleft()
                    yield first, answer.result()
            for first, answer in waiting:
                yield first, answer.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def send(self, batch: Batch) -> LogEventsResponse:
        """The answer to one batch. Raises the error that no waiting mends."""
        if not batch.events:
            return LogEventsResponse()
        request = LogEventsRequest(events=batch.events)
        waited_s, delay_s = 0.0, self._patience.first_delay_s
        while True:
            try:
                return self._log_events(request)
            except grpc.RpcError as error:
                problem = from_call(error)
                if not _passes(problem) or waited_s >= self._patience.give_up_s:
                    raise problem from error
                wait_s = problem.retry_after_s or delay_s
            self._sleep(wait_s)
            waited_s += wait_s
            delay_s = min(2 * delay_s, self._patience.max_delay_s)


def _passes(error: DomainError) -> bool:
    return error.code in _PASSING and error.reason != "LIMIT_EXCEEDED"
