"""A disk that fails, is full or hangs: nothing untrue is acknowledged, and memory is bounded.

Real processes. What cannot be done here, for want of root or strace, is skipped with the reason.
"""

from __future__ import annotations

import contextlib
import resource
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import grpc
import pytest
from touchstone.common.v1 import unit_pb2
from touchstone.events.v1 import event_pb2, events_service_pb2, events_service_pb2_grpc

from services.events.adapters.sqlite_rejected import SqliteRejectedEvents
from services.events.domain.limits import Limits
from services.events.domain.rejection import Wanted
from shared.errors import Code, DomainError
from shared.lake.snapshot import LakeEventTables
from shared.server.status import from_rpc_error
from tests.robustness.faults import PROJECT, EventsProcess, make_key
from tests.robustness.rows.disk import cannot_mount, disk
from tests.robustness.trace import cannot_trace

Start = Callable[..., tuple["EventsProcess", "Sender"]]
CALL_S = 12.0
MEBIBYTE = 1024 * 1024


@dataclass
class Sender:
    """Sends batches and remembers what was acknowledged."""

    process: EventsProcess
    key: str
    acknowledged: list[str] = field(default_factory=list)
    errors: list[DomainError] = field(default_factory=list)
    slowest_s: float = 0.0
    _number: int = 0

    def send(self, count: int = 20, padding: int = 0, bad: bool = False) -> bool:
        """Whether a new batch was acknowledged."""
        self._number += 1
        ids = [f"{id(self)}-{self._number}-{item}" for item in range(count)]
        request = events_service_pb2.LogEventsRequest(events=[event(i, padding) for i in ids])
        if bad:
            request.events.append(event(f"bad-{ids[0]}", 0, name="NO"))
        began = time.monotonic()
        try:
            self._stub.LogEvents(
                request, timeout=CALL_S, metadata=(("authorization", f"Bearer {self.key}"),)
            )
        except grpc.RpcError as error:
            self.errors.append(from_rpc_error(error))  # type: ignore[arg-type]  # also a Call
            return False
        finally:
            self.slowest_s = max(self.slowest_s, time.monotonic() - began)
        self.acknowledged += ids
        return True

    def __enter__(self) -> Self:
        options = [("grpc.enable_retries", 0), ("grpc.max_reconnect_backoff_ms", 200)]
        options.append(("grpc.use_local_subchannel_pool", 1))
        self._channel = grpc.insecure_channel(self.process.address, options=options)
        self._stub = events_service_pb2_grpc.EventsServiceStub(self._channel)
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()


def event(event_id: str, padding: int, name: str = "buy") -> event_pb2.Event:
    one = event_pb2.Event(event_id=event_id, unit=unit_pb2.UnitId(type="user", id="u"))
    one.event_time.FromSeconds(1_790_000_000)
    one.conversion.event_name = name
    if padding:
        one.properties.update({"x": "y" * padding})
    return one


def stored(process: EventsProcess) -> list[str]:
    with LakeEventTables(process.lake).snapshot(PROJECT).read() as tables:
        return list(tables["conversions"].event_id.to_pyarrow().to_pylist())


def eventually_stored(process: EventsProcess, wanted: list[str]) -> None:
    """Everything acknowledged is there once, after the process has ended in order."""
    process.terminate()
    found = stored(process)
    assert len(found) == len(set(found))
    assert set(wanted) <= set(found)


@contextlib.contextmanager
def injected(process: EventsProcess, fault: str) -> Iterator[None]:
    """Within the block these system calls of the process fail."""
    command = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"inject={fault}"]
    strace = subprocess.Popen([*command, "-p", str(process.pid)], stderr=subprocess.DEVNULL)
    try:
        tasks = Path(f"/proc/{process.pid}/task")
        end = time.monotonic() + 20
        while any("TracerPid:\t0\n" in (task / "status").read_text() for task in tasks.iterdir()):
            assert strace.poll() is None, "strace cannot attach"
            assert time.monotonic() < end, "strace does not attach"
            time.sleep(0.02)
        yield
    finally:
        strace.terminate()
        strace.wait(20)


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Start]:
    """Starts a service and a sender to it."""
    processes: list[EventsProcess] = []

    def start(
        module: str = "services.events", folder: Path = tmp_path
    ) -> tuple[EventsProcess, Sender]:
        process = EventsProcess(folder / "data", module)
        key = make_key(process.data)
        process.start()
        processes.append(process)
        return process, Sender(process, key)

    yield start
    for process in processes:
        process.kill()


def refused(sender: Sender, times: int = 3) -> None:
    """Every batch is refused as one that may be sent again."""
    for _ in range(times):
        assert not sender.send()
        error = sender.errors[-1]
        # Where the disk is slow as well, a batch may not even come to the one that it cannot write.
        assert (error.code, error.reason) in {
            (Code.UNAVAILABLE, "STORAGE_UNAVAILABLE"),
            (Code.RESOURCE_EXHAUSTED, "OVERLOADED"),
        }
        assert error.retry_after_s


def fenced_until_restart(process: EventsProcess, sender: Sender) -> None:
    """The fault is over, and still nothing is acknowledged; a restart ends that."""
    refused(sender)
    assert process.wait_serving(wanted=False, timeout_s=10)
    process.terminate()
    process.start()
    assert sender.send()


needs_strace = pytest.mark.skipif(bool(cannot_trace()), reason=cannot_trace() or "it can")


@needs_strace
def test_after_a_failed_sync_nothing_is_acknowledged_until_a_restart(started: Start) -> None:
    process, sender = started()
    with sender:
        assert sender.send()
        with injected(process, "fdatasync:error=EIO"):
            refused(sender)
        fenced_until_restart(process, sender)
    eventually_stored(process, sender.acknowledged)


@needs_strace
def test_a_journal_that_does_not_sync_would_be_found_out(started: Start) -> None:
    """The twin of the test above."""
    process, sender = started("tests.robustness.twins.unsynced_journal")
    with sender:
        assert sender.send()
        with injected(process, "fdatasync:error=EIO"):
            assert sender.send()


def test_after_a_failed_write_nothing_is_acknowledged_until_a_restart(started: Start) -> None:
    """EFBIG: the file may not grow any more, which no adapter knows how to undo."""
    process, sender = started()
    with sender:
        assert sender.send()
        before = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (1, before[1]))
        refused(sender)
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, before)
        fenced_until_restart(process, sender)
    eventually_stored(process, sender.acknowledged)


@contextlib.contextmanager
def ext4(folder: Path, image: Path) -> Iterator[None]:
    """A file system of its own at the folder; OSError or CalledProcessError where there is none."""
    with image.open("wb") as file:
        file.truncate(128 * MEBIBYTE)
    subprocess.run(["mkfs.ext4", "-q", str(image)], check=True)
    with mounted(image, folder):
        yield


@contextlib.contextmanager
def mounted(image: Path, folder: Path) -> Iterator[None]:
    folder.mkdir(exist_ok=True)
    subprocess.run(["mount", "-o", "loop", str(image), str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def cannot_loop() -> str:
    """Why no file can be mounted here."""
    if cannot_mount() or shutil.which("mkfs.ext4") is None:
        return cannot_mount() or "mkfs.ext4 is not installed"
    return "" if Path("/dev/loop-control").exists() else "there are no loop devices"


@pytest.mark.skipif(bool(cannot_loop()), reason=cannot_loop() or "it can")
def test_a_disk_that_turned_read_only_gets_nothing_acknowledged(
    started: Start, tmp_path: Path
) -> None:
    """As the kernel does when a disk fails: open files stay open, and every write is EROFS."""
    image, folder = tmp_path / "disk.img", tmp_path / "disk"
    try:
        with ext4(folder, image):
            process, sender = started(folder=folder)
            with sender:
                assert sender.send()
                subprocess.run(["mount", "-o", "remount,abort", str(folder)], check=True)
                refused(sender)
                assert process.wait_serving(wanted=False, timeout_s=10)
                process.kill()
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no file system can be mounted here: {error}")
    with mounted(image, folder):
        process.start()
        with sender:
            assert sender.send()
        eventually_stored(process, sender.acknowledged)


@pytest.mark.skipif(bool(cannot_mount()), reason=cannot_mount() or "it can")
def test_a_full_disk_heals_with_rejected_events_and_watermark(
    started: Start, tmp_path: Path
) -> None:
    folder = tmp_path / "small"
    with disk(folder, 48):
        process, sender = started(folder=folder)
        with sender:
            assert sender.send(bad=True)
            ballast = folder / "ballast"
            with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
                while True:
                    file.write(bytes(4096))
            end = time.monotonic() + 20
            while sender.send(count=200, padding=1000, bad=True) and time.monotonic() < end:
                pass
            refused(sender, 1)
            ballast.unlink()
            assert process.wait_serving(wanted=True, timeout_s=30)
            assert sender.send(bad=True)
        eventually_stored(process, sender.acknowledged)
        store = SqliteRejectedEvents(process.rejected, Limits())
        kept = {one.event.rejection.event_id for one in store.newest(PROJECT, Wanted(), None, 999)}
        store.close()
        acknowledged = {i for i in sender.acknowledged if i.endswith("-0")}
        assert {f"bad-{i}" for i in acknowledged} <= kept


def resident_bytes(process: EventsProcess) -> int:
    for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("the process is gone")


def flood(senders: list[Sender], process: EventsProcess, seconds: float, megabytes: int) -> int:
    """Send large batches from every sender; the most memory that the process took meanwhile."""
    done, most = threading.Event(), 0

    def work(sender: Sender) -> None:
        with sender:
            while not done.is_set():
                if not sender.send(count=megabytes * 100, padding=10_000):
                    time.sleep(0.05)

    threads = [threading.Thread(target=work, args=(sender,)) for sender in senders]
    for thread in threads:
        thread.start()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        most = max(most, resident_bytes(process))
        time.sleep(0.1)
    done.set()
    for thread in threads:
        thread.join()
    return most


def test_while_the_disk_hangs_memory_is_bounded_and_callers_are_told_in_time(
    started: Start,
) -> None:
    process, sender = started("tests.robustness.stalling")
    with sender:
        assert sender.send(count=200, padding=10_000)
        before = resident_bytes(process)
        hangs = process.data / "append.hangs"
        hangs.touch()
        senders = [Sender(process, sender.key) for _ in range(24)]
        most = flood(senders, process, seconds=10, megabytes=3)
        assert process.wait_serving(wanted=False, timeout_s=5)
        errors = [error for one in senders for error in one.errors]
        hangs.unlink()
        assert process.wait_serving(wanted=True, timeout_s=10)
        assert sender.send()
    print(f"{(most - before) / MEBIBYTE:.0f} MiB more, {len(errors)} refused")
    assert errors
    assert all(one.acknowledged == [] for one in senders)
    codes = {(error.code, error.reason) for error in errors}
    assert codes <= {
        (Code.UNAVAILABLE, "STORAGE_UNAVAILABLE"),
        (Code.RESOURCE_EXHAUSTED, "OVERLOADED"),
    }
    assert all(error.retry_after_s for error in errors)
    assert max(one.slowest_s for one in senders) < CALL_S
    assert most - before < 512 * MEBIBYTE


def test_while_the_flusher_hangs_memory_is_bounded(started: Start) -> None:
    """What is acknowledged waits on the disk, not in memory."""
    process, sender = started("tests.robustness.stalling")
    with sender:
        assert sender.send(count=200, padding=10_000)
        before = resident_bytes(process)
        (process.data / "read.hangs").touch()
        senders = [Sender(process, sender.key) for _ in range(4)]
        most = flood(senders, process, seconds=8, megabytes=3)
        (process.data / "read.hangs").unlink()
    sent = sum(len(one.acknowledged) for one in senders) * 10_000
    print(f"{(most - before) / MEBIBYTE:.0f} MiB more for {sent / MEBIBYTE:.0f} MiB in the journal")
    assert sent > 100 * MEBIBYTE, "otherwise this shows nothing"
    assert most - before < 400 * MEBIBYTE
    eventually_stored(process, [i for one in senders for i in one.acknowledged])
