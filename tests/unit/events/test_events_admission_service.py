"""Limits on what comes in, over the real server: who is refused, and what it costs the others."""

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
import pytest
from touchstone.common.v1 import unit_pb2
from touchstone.events.v1 import event_pb2, events_service_pb2, events_service_pb2_grpc

from shared.errors import Code, DomainError
from shared.server.status import from_rpc_error
from tests.robustness.faults import EventsProcess, make_key

BATCH = 200
FLOOD_S = 3.0


@dataclass
class Service:
    process: EventsProcess
    keys: dict[str, str]

    def log(self, channel: grpc.Channel, project: str, name: str, count: int) -> DomainError | None:
        """The error of a call, None when it was acknowledged."""
        stub = events_service_pb2_grpc.EventsServiceStub(channel)
        request = events_service_pb2.LogEventsRequest(
            events=[event(f"{name}-{number}") for number in range(count)]
        )
        metadata = (("authorization", f"Bearer {self.keys[project]}"),)
        try:
            reply = stub.LogEvents(request, metadata=metadata, timeout=20)
        except grpc.RpcError as error:
            return from_rpc_error(error)  # type: ignore[arg-type]  # it is a Call as well
        assert reply.accepted == count
        return None


def event(event_id: str, seconds: int = 1_790_000_000) -> event_pb2.Event:
    one = event_pb2.Event(event_id=event_id, unit=unit_pb2.UnitId(type="user", id="u"))
    one.event_time.FromSeconds(seconds)
    one.conversion.event_name = "buy"
    return one


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    process = EventsProcess(
        tmp_path / "data",
        flush_interval_s=0.5,
        more={
            "TOUCHSTONE_RATE_EVENTS_PER_S": "1000",
            "TOUCHSTONE_PROJECT_RATES": "acme=1000000:100000000",
        },
    )
    keys = {project: make_key(process.data, project) for project in ("acme", "flood")}
    process.start()
    yield Service(process, keys)
    process.kill()


def test_what_is_beyond_the_rate_is_refused_with_a_delay_that_is_enough(service: Service) -> None:
    with grpc.insecure_channel(service.process.address) as channel:
        errors = [service.log(channel, "flood", str(number), 500) for number in range(8)]
        refused = [error for error in errors if error is not None]
        assert errors[0] is None
        assert refused
        error = refused[-1]
        assert (error.code, error.reason) == (Code.RESOURCE_EXHAUSTED, "RATE_LIMITED")
        assert error.metadata["events_per_s"] == "1000"
        assert error.retry_after_s is not None
        assert 0 < error.retry_after_s <= 0.5
        time.sleep(error.retry_after_s)
        assert service.log(channel, "flood", "again", 500) is None


def test_a_project_may_have_a_higher_rate(service: Service) -> None:
    with grpc.insecure_channel(service.process.address) as channel:
        assert [service.log(channel, "acme", str(number), 1000) for number in range(8)] == [
            None
        ] * 8


def test_a_flood_of_one_project_does_not_delay_the_calls_of_another(service: Service) -> None:
    done = threading.Event()
    outcomes: list[str] = []

    def flood(worker: int) -> None:
        options = [("grpc.enable_retries", 0), ("grpc.use_local_subchannel_pool", 1)]
        with grpc.insecure_channel(service.process.address, options=options) as channel:
            number = 0
            while not done.is_set():
                number += 1
                error = service.log(channel, "flood", f"{worker}-{number}", BATCH)
                outcomes.append("stored" if error is None else error.reason)

    with grpc.insecure_channel(service.process.address) as channel:
        alone = latencies(service, channel, "alone")
        threads = [threading.Thread(target=flood, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        time.sleep(0.5)
        beside = latencies(service, channel, "beside")
        done.set()
        for thread in threads:
            thread.join()
    assert outcomes.count("RATE_LIMITED") > len(outcomes) / 2, "otherwise this was no flood"
    print(f"median alone {np.median(alone):.4f} s, beside a flood {np.median(beside):.4f} s")
    # The flood shares two cores with the service and with this client.
    assert np.median(beside) < np.median(alone) + 0.25
    assert max(beside) < 3.0


def latencies(service: Service, channel: grpc.Channel, name: str) -> list[float]:
    """Seconds that each call of the other project took; every one is acknowledged."""
    found: list[float] = []
    end = time.monotonic() + FLOOD_S
    while time.monotonic() < end:
        began = time.perf_counter()
        assert service.log(channel, "acme", f"{name}-{len(found)}", 20) is None
        found.append(time.perf_counter() - began)
        time.sleep(0.01)
    return found


def test_who_spreads_events_over_days_waits_and_the_tables_stay_open(service: Service) -> None:
    with grpc.insecure_channel(service.process.address) as channel:
        stub = events_service_pb2_grpc.EventsServiceStub(channel)
        metadata = (("authorization", f"Bearer {service.keys['acme']}"),)
        accepted, errors = 0, []
        for call in range(20):
            days = range(600 * call, 600 * (call + 1))
            request = events_service_pb2.LogEventsRequest(
                events=[event(f"{day}", day * 86_400) for day in days]
            )
            try:
                accepted += stub.LogEvents(request, metadata=metadata, timeout=20).accepted
            except grpc.RpcError as error:
                errors.append(from_rpc_error(error))  # type: ignore[arg-type]  # it is a Call
        # What is paid for by then: 250 at once, 50 a second, and one batch that leaves a debt.
        assert accepted <= 6000
        assert errors
        assert {error.reason for error in errors} == {"RATE_LIMITED"}
        assert all(error.retry_after_s for error in errors)
        assert service.log(channel, "flood", "other", 1) is None, "another project does not wait"
