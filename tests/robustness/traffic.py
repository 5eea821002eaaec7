"""Clients that ingest without rest and write down what they were told."""

from __future__ import annotations

import enum
import threading
import time
from dataclasses import dataclass

import grpc
import numpy as np
from touchstone.common.v1 import unit_pb2
from touchstone.events.v1 import event_pb2, events_service_pb2, events_service_pb2_grpc

BATCH = 100
CALL_S = 10.0
RETRY_SHARE = 0.5
RESEND_SHARE = 0.1


class Outcome(enum.Enum):
    """What a client knows after a call. UNKNOWN: it may or may not have happened."""

    OK = "ok"
    UNKNOWN = "unknown"


@dataclass
class Batch:
    """Events that were sent together, maybe several times."""

    ids: list[str]
    outcome: Outcome = Outcome.UNKNOWN
    token: str = ""
    accepted_again: int = 0
    """Events that a repetition accepted although they had been acknowledged: each is an error."""


@dataclass
class History:
    """Every batch that any client sent."""

    clients: list[list[Batch]]

    @property
    def batches(self) -> list[Batch]:
        """The batches of all clients."""
        return [batch for client in self.clients for batch in client]

    @property
    def unserved_clients(self) -> int:
        """Clients whose last new batch was not acknowledged."""
        return sum(client[-1].outcome is not Outcome.OK for client in self.clients)

    @property
    def acknowledged(self) -> set[str]:
        """The events that a client was told are stored."""
        return {i for b in self.batches if b.outcome is Outcome.OK for i in b.ids}

    @property
    def sent(self) -> set[str]:
        """Every event that was ever sent."""
        return {i for b in self.batches for i in b.ids}

    @property
    def accepted_again(self) -> int:
        """Events that were accepted twice."""
        return sum(b.accepted_again for b in self.batches)


def value_of(event_id: str) -> float:
    """The value that an event carries, so that a mix-up of rows is seen."""
    client, number, item = event_id.split("-")
    return float(int(client) * 1_000_000_000 + int(number) * 1000 + int(item))


def request_of(ids: list[str]) -> events_service_pb2.LogEventsRequest:
    """The call that sends these events; the same bytes in every repetition."""
    request = events_service_pb2.LogEventsRequest()
    for event_id in ids:
        event = event_pb2.Event(event_id=event_id, unit=unit_pb2.UnitId(type="user", id=event_id))
        event.event_time.FromSeconds(1_790_000_000 + int(value_of(event_id)) % 200_000)
        if int(event_id.rsplit("-", 1)[1]) % 2:
            event.conversion.event_name = "buy"
            event.conversion.value = value_of(event_id)
        else:
            event.touchpoint.channel = "email"
            event.touchpoint.cost = value_of(event_id)
        request.events.append(event)
    return request


class Client(threading.Thread):
    """One client. `pause` and `resume` bracket the time without a server."""

    def __init__(self, number: int, address: str, key: str, seed: int) -> None:
        super().__init__(name=f"client-{number}", daemon=True)
        self.history: list[Batch] = []
        self._number = number
        self._address = address
        self._metadata = (("authorization", f"Bearer {key}"),)
        self._choice = np.random.default_rng([seed, number])
        self._stopped = threading.Event()
        self._pending: list[Batch] = []

    def stop(self) -> None:
        """Stop after the call in progress and wait."""
        self._stopped.set()
        self.join()

    def run(self) -> None:
        """Send until stopped."""
        options = [("grpc.enable_retries", 0), ("grpc.max_reconnect_backoff_ms", 200)]
        with grpc.insecure_channel(self._address, options=options) as channel:
            stub = events_service_pb2_grpc.EventsServiceStub(channel)
            while not self._stopped.is_set():
                self._send(stub, self._next())
            for batch in self._pending:
                self._send(stub, batch)

    def _next(self) -> Batch:
        if self._pending and self._choice.random() < RETRY_SHARE:
            return self._pending.pop(0)
        stored = [b for b in self.history[-50:] if b.outcome is Outcome.OK]
        if stored and self._choice.random() < RESEND_SHARE:
            return stored[int(self._choice.integers(len(stored)))]
        number = len(self.history)
        batch = Batch([f"{self._number}-{number}-{item}" for item in range(BATCH)])
        self.history.append(batch)
        return batch

    def _send(self, stub: events_service_pb2_grpc.EventsServiceStub, batch: Batch) -> None:
        try:
            reply = stub.LogEvents(request_of(batch.ids), timeout=CALL_S, metadata=self._metadata)
        except grpc.RpcError:
            time.sleep(0.02)
            # Half of the batches without an answer are repeated, half are given up.
            if batch.outcome is Outcome.UNKNOWN and self._choice.random() < RETRY_SHARE:
                self._pending.append(batch)
            return
        assert not reply.rejected, reply.rejected[0]
        assert reply.accepted + reply.duplicates == len(batch.ids)
        if batch.outcome is Outcome.OK:
            batch.accepted_again += reply.accepted
        batch.outcome = Outcome.OK
        batch.token = reply.consistency_token
