"""Sends batches with a few calls in flight, and again when the service asks for patience."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import grpc
from touchstone.events.v1.events_service_pb2 import LogEventsRequest, LogEventsResponse

from services.cli.failures import from_call
from services.cli.terminal import say
from shared.errors import Code, DomainError

_PASSING = frozenset((Code.UNAVAILABLE, Code.RESOURCE_EXHAUSTED, Code.DEADLINE_EXCEEDED))
_RATE_LIMITED = "RATE_LIMITED"


class Sendable(Protocol):
    """Events that are sent in one call."""

    def request(self) -> LogEventsRequest | bytes | None:
        """The request, or its bytes; None when there is nothing to send."""
        ...


S = TypeVar("S", bound=Sendable)


@dataclass(frozen=True, slots=True)
class Patience:
    """How calls are repeated: from `first_delay_s` doubling to `max_delay_s`, unless the service
    names a delay; given up when `give_up_s` have passed since the first one.
    """

    in_flight: int = 4
    first_delay_s: float = 0.2
    max_delay_s: float = 5.0
    give_up_s: float = 120.0


class Sender:
    """Sends batches through LogEvents. Every call may be repeated: event ids make it safe."""

    def __init__(
        self,
        log_events: Callable[[Any], LogEventsResponse],
        patience: Patience | None = None,
        sleep: Callable[[float], object] | None = None,
        tell: Callable[[str], None] = say,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log_events = log_events
        self._patience = patience or Patience()
        self._stopping = threading.Event()
        self._sleep = sleep or self._stopping.wait
        self._tell = tell
        self._monotonic = monotonic
        self._told = False
        self._told_pace = False

    def send_all(self, batches: Iterable[S]) -> Iterator[tuple[S, LogEventsResponse]]:
        """Each batch with its answer, in order. Raises the error of the first that fails for
        good; those before it are acknowledged. When it is left early, calls that wait for another
        try end at once, and those in flight when their channel closes.
        """
        self._stopping.clear()
        waiting: deque[tuple[S, Future[LogEventsResponse]]] = deque()
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
            self._stopping.set()
            pool.shutdown(wait=False, cancel_futures=True)

    def send(self, batch: Sendable) -> LogEventsResponse:
        """The answer to one batch. Raises the error that no waiting mends."""
        request = batch.request()
        if request is None:
            return LogEventsResponse()
        waited_s, delay_s = 0.0, self._patience.first_delay_s
        while True:
            called_s = self._monotonic()
            try:
                answer = self._log_events(request)
            except grpc.RpcError as error:
                problem = from_call(error)
                waited_s += self._monotonic() - called_s
                if not self._may_repeat(problem, waited_s):
                    raise problem from error
                wait_s = problem.retry_after_s or delay_s
            else:
                self._told = False
                return answer
            self._tell_once(problem, waited_s)
            self._sleep(wait_s)
            if self._stopping.is_set():
                raise problem
            # A service that says how fast it may go is there: only silence wears out.
            if problem.reason != _RATE_LIMITED:
                waited_s += wait_s
            delay_s = min(2 * delay_s, self._patience.max_delay_s)

    def _may_repeat(self, problem: DomainError, waited_s: float) -> bool:
        patient = waited_s < self._patience.give_up_s
        return _passes(problem) and patient and not self._stopping.is_set()

    def _tell_once(self, problem: DomainError, waited_s: float) -> None:
        """Busy is no news; no answer is, and a limit that sets the pace of all calls."""
        if problem.reason == _RATE_LIMITED and not self._told_pace:
            self._told_pace = True
            self._tell(f"going on as fast as the service allows: {problem.message}")
        if self._told or problem.code is Code.RESOURCE_EXHAUSTED:
            return
        self._told = True
        left_s = self._patience.give_up_s - waited_s
        self._tell(f"events does not answer, trying again for up to {left_s:.0f} s")


def _passes(error: DomainError) -> bool:
    return error.code in _PASSING and error.reason != "LIMIT_EXCEEDED"
