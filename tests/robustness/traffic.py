"""Clients that ingest without rest, repeat what they are not sure of, and write down everything."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import grpc
import numpy as np
from touchstone.events.v1 import events_service_pb2, events_service_pb2_grpc

from tests.robustness.content import BAD, Name, event_of
from tests.robustness.history import ACCEPTED, DUPLICATE, Call, History, Outcome

CALL_S = 10.0
SERVED_AGAIN_S = 30.0
"""A service that was harmed for a moment serves again within this time."""
RETRY_SHARE, RESEND_SHARE, CONFLICT_SHARE, BAD_SHARE = 0.5, 0.05, 0.02, 0.01
_SURE = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.UNIMPLEMENTED,
}
"""After these codes nothing of the call was or will be done."""
_RETRIED = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.UNAUTHENTICATED,
}
"""Codes that a client may meet while something is broken. INTERNAL and UNKNOWN are bugs."""

CHANNEL = [("grpc.enable_retries", 0), ("grpc.max_reconnect_backoff_ms", 200)]


@dataclass(frozen=True, slots=True)
class Target:
    """Where clients send to, and as whom: a key for each project."""

    address: str
    keys: dict[str, str]
    call_s: float = CALL_S


def send(
    stub: events_service_pb2_grpc.EventsServiceStub, target: Target, call: Call, history: History
) -> Outcome:
    """Make a call and write down what became of it."""
    request = events_service_pb2.LogEventsRequest(events=[event_of(n) for n in call.names])
    metadata = (("authorization", f"Bearer {target.keys[call.project]}"),)
    call.start_s = time.monotonic()
    history.begin(call)
    try:
        reply = stub.LogEvents(request, timeout=target.call_s, metadata=metadata)
    except grpc.RpcError as error:
        _failed(call, error, history)
    else:
        call.end_s = time.monotonic()
        _answered(call, reply, history)
        history.answered.append(call)
    # Sending and receiving take the machine some time of their own.
    took_s = time.monotonic() - call.start_s
    history.longest_s = max(history.longest_s, took_s)
    if took_s > target.call_s + 3:
        history.complain("deadline", f"a call took {took_s:.1f} s, its deadline is {target.call_s}")
    return call.outcome


def _failed(call: Call, error: grpc.RpcError, history: History) -> None:
    code = error.code()
    call.code = code.name
    if code in _SURE:
        call.end_s = time.monotonic()
        call.outcome = Outcome.FAILED
    if code not in _RETRIED:
        history.complain("code", f"{code.name}: {error.details()}")


def _answered(call: Call, reply: events_service_pb2.LogEventsResponse, history: History) -> None:
    statuses = [ACCEPTED] * len(call.names)
    for place in reply.duplicate_items:
        statuses[place] = DUPLICATE
    for item in reply.rejected:
        reason = events_service_pb2.RejectionReason.Name(item.reason)
        statuses[item.item] = reason.removeprefix("REJECTION_REASON_")
    counts = (reply.accepted, reply.duplicates, len(reply.rejected))
    told = (statuses.count(ACCEPTED), statuses.count(DUPLICATE))
    if counts[:2] != told or sum(counts) != len(call.names):
        history.complain("counts", f"{counts} of {len(call.names)} items, by item {told}")
    # The rest of the program reads these fields as soon as the outcome is OK.
    call.statuses, call.token = statuses, reply.consistency_token
    call.outcome = Outcome.OK


@dataclass
class Choices:
    """What one client sends next, by its seed alone and what it was told before."""

    number: int
    projects: list[str]
    largest: int
    dice: np.random.Generator
    wanted: Callable[[Name], bool] = field(default=lambda _name: True)
    """Which events it sends; those that another version does not know may be left out."""
    unsure: dict[str, list[Name]] = field(default_factory=dict)
    """Events of calls without an answer that will be sent again, by project."""
    _known: dict[str, list[Name]] = field(default_factory=dict)
    _made: int = 0

    def batch(self) -> list[Name]:
        """The next batch: new events, repetitions in other batches than before, conflicting and
        bad ones, an id twice; all of one project."""
        project = self.projects[int(self.dice.integers(len(self.projects)))]
        size = int(np.exp(self.dice.uniform(0, np.log(self.largest + 1))))
        names: list[Name] = []
        unsure = self.unsure.setdefault(project, [])
        if unsure and self.dice.random() < RETRY_SHARE:
            names, self.unsure[project] = unsure[:size], unsure[size:]
        known = self._known.setdefault(project, [])
        while len(names) < size:
            names.append(self._one(project, known))
        self._known[project] = (known + names)[-5_000:]
        return names

    def fresh(self, project: str, size: int) -> list[Name]:
        """A batch of new and good events only."""
        return [self._new(project) for _ in range(size)]

    def _one(self, project: str, known: list[Name]) -> Name:
        roll = self.dice.random()
        if roll < BAD_SHARE:
            return self._new(project, BAD)
        if known and roll < BAD_SHARE + CONFLICT_SHARE + RESEND_SHARE:
            again = known[int(self.dice.integers(len(known)))]
            conflicts = roll < BAD_SHARE + CONFLICT_SHARE and not again.event_id.startswith(BAD)
            other = again._replace(take=1 - again.take)
            return other if conflicts and self.wanted(other) else again
        return self._new(project)

    def _new(self, project: str, prefix: str = "") -> Name:
        # Projects share ids: they are told apart by the project alone.
        while True:
            self._made += 1
            shared = self._made if self.dice.random() < 0.98 else max(1, self._made - 40)
            name = Name(project, f"{prefix}c{self.number}-{shared}")
            if self.wanted(name):
                return name


class Client(threading.Thread):
    """One client, until it is stopped; then it sends until it is served once more."""

    def __init__(self, choices: Choices, target: Target, history: History) -> None:
        super().__init__(name=f"client-{choices.number}", daemon=True)
        self._choices = choices
        self._target = target
        self._history = history
        self._stopped = threading.Event()

    def stop(self) -> None:
        """Stop after the call in progress and wait."""
        self._stopped.set()
        self.join()

    def run(self) -> None:
        """Send until stopped."""
        try:
            with grpc.insecure_channel(self._target.address, options=CHANNEL) as channel:
                stub = events_service_pb2_grpc.EventsServiceStub(channel)
                while not self._stopped.is_set():
                    self._send(stub, self._choices.batch())
                self._finish(stub)
        except Exception as error:
            self._history.complain("client", f"{type(error).__name__}: {error}")
            raise

    def _send(self, stub: events_service_pb2_grpc.EventsServiceStub, names: list[Name]) -> Outcome:
        call = Call(self._choices.number, names[0].project, names, 0.0)
        outcome = send(stub, self._target, call, self._history)
        if outcome is not Outcome.OK:
            time.sleep(0.05)
            # Half of what has no answer is repeated, half is given up.
            if self._choices.dice.random() < RETRY_SHARE:
                self._choices.unsure.setdefault(call.project, []).extend(names)
        return outcome

    def _finish(self, stub: events_service_pb2_grpc.EventsServiceStub) -> None:
        for project in self._choices.projects:
            end = time.monotonic() + SERVED_AGAIN_S
            names = self._choices.fresh(project, 3) + self._choices.unsure.get(project, [])[:2_000]
            while self._send(stub, names) is not Outcome.OK:
                if time.monotonic() > end:
                    self._history.complain("served", f"client {self._choices.number} is not again")
                    return
