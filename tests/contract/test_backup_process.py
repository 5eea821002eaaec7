"""Backups of a real process that is killed while it makes them, under traffic.

tests/robustness plays backups under traffic and restores them.
"""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import grpc
import numpy as np
import pytest
from google.longrunning import operations_pb2, operations_pb2_grpc
from touchstone.common.v1 import unit_pb2
from touchstone.events.v1 import backup_service_pb2 as pb
from touchstone.events.v1 import backup_service_pb2_grpc as pb_grpc
from touchstone.events.v1 import event_pb2, events_service_pb2, events_service_pb2_grpc

from shared.backup.files import verify
from shared.backup.manifest import read_manifest
from shared.backup.restore import restore
from shared.clock import SystemClock
from shared.ids import RandomIds
from shared.lake.snapshot import LakeEventTables
from shared.security.bootstrap import make_operator_key
from shared.server.platform import open_platform
from shared.settings import Settings
from tests.contract.test_lake_tables import ids
from tests.robustness.faults import PROJECT, EventsProcess, make_key

CLIENTS = 4
EVENTS = 20
KILLS = 3


def operator_key(data: Path) -> str:
    platform = open_platform(Settings(data=data))
    try:
        made = make_operator_key(
            platform.database, platform.audit_keys, SystemClock(), RandomIds(), "operators"
        )
        return made.text
    finally:
        platform.database.close()


def metadata(key: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {key}"),)


class Traffic:
    """Clients that log events until they are stopped, and what was acknowledged to them."""

    def __init__(self, address: str, key: str) -> None:
        self.acknowledged: list[str] = []
        self._stop = threading.Event()
        self._address, self._key = address, key
        self._threads = ThreadPoolExecutor(CLIENTS)
        self._running = [self._threads.submit(self._client, n) for n in range(CLIENTS)]

    def stop(self) -> None:
        self._stop.set()
        for running in self._running:
            running.result()
        self._threads.shutdown()

    def _client(self, number: int) -> None:
        with grpc.insecure_channel(self._address) as channel:
            stub = events_service_pb2_grpc.EventsServiceStub(channel)
            batch = 0
            while not self._stop.is_set():
                names = [f"{number}-{batch:05d}-{item:02d}" for item in range(EVENTS)]
                request = events_service_pb2.LogEventsRequest(events=[event(n) for n in names])
                # The same batch again after a failure: each of its events counts once.
                with suppress(grpc.RpcError):
                    stub.LogEvents(request, metadata=metadata(self._key), timeout=10)
                    self.acknowledged.extend(names)
                    batch += 1
                time.sleep(0.005)


def event(name: str) -> event_pb2.Event:
    made = event_pb2.Event(
        event_id=name,
        unit=unit_pb2.UnitId(type="user", id=f"u-{name}"),
        conversion=event_pb2.Conversion(event_name="buy", value=1.0),
    )
    made.event_time.FromDatetime(datetime(2026, 1, 1, tzinfo=UTC))
    return made


def begin(address: str, key: str, backup_id: str) -> operations_pb2.Operation:
    with grpc.insecure_channel(address) as channel:
        request = pb.CreateBackupRequest(parent="projects/operators", backup_id=backup_id)
        stub = pb_grpc.BackupServiceStub(channel)
        return stub.CreateBackup(request, metadata=metadata(key), timeout=30).operation


def finish(address: str, key: str, name: str, wait_s: float = 60.0) -> operations_pb2.Operation:
    end = time.monotonic() + wait_s
    with grpc.insecure_channel(address) as channel:
        stub = operations_pb2_grpc.OperationsStub(channel)
        while time.monotonic() < end:
            request = operations_pb2.WaitOperationRequest(name=name)
            operation = stub.WaitOperation(request, metadata=metadata(key), timeout=60)
            if operation.done:
                return operation
    raise AssertionError(f"{name} is not done after {wait_s} s")


def judged(backup: Path, acknowledged: list[str], into: Path) -> list[str]:
    """What is in a backup, once it is restored; every event that was acknowledged before it."""
    verify(backup, read_manifest(backup))
    restore(backup, into, RandomIds())
    found = ids(LakeEventTables(into / "lake").snapshot(PROJECT))
    assert len(found) == len(set(found)), "an event is there twice"
    assert set(acknowledged) <= set(found)
    return found


@pytest.fixture
def process(tmp_path: Path) -> EventsProcess:
    return EventsProcess(tmp_path / "data")


def test_a_kill_during_a_backup_leaves_a_whole_one_or_none(
    process: EventsProcess, tmp_path: Path
) -> None:
    seed = 20261122
    print(f"seed {seed}")
    choice = np.random.default_rng(seed)
    key, operator = make_key(process.data), operator_key(process.data)
    process.start()
    traffic = Traffic(process.address, key)
    try:
        time.sleep(1.5)
        for number in range(KILLS):
            name = f"k{number}"
            before = list(traffic.acknowledged)
            operation = begin(process.address, operator, name)
            time.sleep(choice.uniform(0.0, 0.4))
            process.kill()
            for folder in (process.data / "backups").glob("[!.]*"):
                verify(folder, read_manifest(folder))
            process.start()
            done = finish(process.address, operator, operation.name)
            assert not done.HasField("error"), done.error
            judged(process.data / "backups" / name, before, tmp_path / name)
            assert not list((process.data / "backups").glob(f".{name}*"))
    finally:
        traffic.stop()
        process.terminate()
