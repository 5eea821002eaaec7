"""Rows 10 and 11: a disk that is full, and one on which nothing can be written or synced."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.robustness.fault import Fault, Play, Scene, open_scene, under_traffic
from tests.robustness.faults import EventsProcess
from tests.robustness.history import ACCEPTED
from tests.robustness.launcher import Limits
from tests.robustness.model import Verdict
from tests.robustness.trace import cannot_trace, injected

DISK_MB = 96
FULL_S = 1.2
WELL_AGAIN_S = 0.5
NOTICED_S = 40.0
"""As long as the longest pause between two attempts to flush, and some."""
OPEN_FILES = 128
FAILURES = (
    ("fdatasync,fsync", "EIO"),
    ("pwrite64", "EIO"),
    ("pwrite64,openat,fdatasync,fsync,rename,linkat,mkdir", "EROFS"),
)


@contextlib.contextmanager
def disk(folder: Path, megabytes: int) -> Iterator[None]:
    """A small disk at the folder; only root can."""
    folder.mkdir(parents=True, exist_ok=True)
    size = f"size={megabytes}m"
    subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def cannot_mount() -> str:
    """Why no disk can be mounted here."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            with disk(Path(folder), 1):
                return ""
        except (OSError, subprocess.CalledProcessError):
            return "only root can mount a disk"


def fill(scene: Scene) -> None:
    """Leave no byte free for a while; it must stop serving, and serve again by itself."""
    ballast = scene.process.data / "ballast"
    try:
        with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))
        time.sleep(FULL_S)
    finally:
        ballast.unlink()
    if not scene.process.wait_serving(wanted=True, timeout_s=NOTICED_S):
        scene.history.complain("recovery", f"not SERVING {NOTICED_S} s after the disk has space")


def fail_journal(scene: Scene) -> None:
    """Let the disk fail under the journal for a while: nothing new is acknowledged any more until
    somebody restarts the process, also when the disk is well again."""
    calls, error = FAILURES[scene.faults % len(FAILURES)]
    with injected(scene.process, calls, f"error={error}"):
        noticed = scene.process.wait_serving(wanted=False, timeout_s=NOTICED_S)
    if not noticed:
        scene.history.complain("readiness", f"SERVING although {calls} give {error}")
    before_s = time.monotonic()
    time.sleep(WELL_AGAIN_S)
    for call in list(scene.history.answered):
        if call.start_s > before_s and ACCEPTED in call.statuses:
            scene.history.complain("fence", f"{call.names[:2]} acknowledged after {error}")
    scene.process.kill()
    scene.process.start()


def fail_tables(scene: Scene) -> None:
    """Let nothing be committed to the tables for a while: it heals by itself."""
    with injected(scene.process, "rename,linkat", "error=EIO"):
        noticed = scene.process.wait_serving(wanted=False, timeout_s=NOTICED_S)
    if not noticed:
        scene.history.complain("readiness", "SERVING although no table can be written")
    if not scene.process.wait_serving(wanted=True, timeout_s=NOTICED_S):
        scene.history.complain("recovery", "not SERVING although the tables can be written")


def fail(scene: Scene) -> None:
    """The journal first, then the tables, and so on."""
    (fail_journal if scene.faults % 3 != 1 else fail_tables)(scene)


def exhaust_files(scene: Scene) -> None:
    """Take every file descriptor that the process may open, by connections that say nothing."""
    taken = []
    try:
        for _ in range(2 * OPEN_FILES):
            one = socket.socket()
            taken.append(one)
            one.settimeout(1)
            one.connect(("127.0.0.1", scene.process.port))
    except OSError:
        pass
    time.sleep(FULL_S)
    for one in taken:
        one.close()
    if not scene.process.wait_serving(wanted=True, timeout_s=NOTICED_S):
        scene.history.complain("recovery", "not SERVING although files can be opened")


def _full(play: Play) -> Verdict:
    with disk(play.folder, DISK_MB):
        return under_traffic(play, fill)


FULL = Fault(
    10,
    "no space on the disk while it ingests",
    _full,
    twins={"early_ack": 1},
    short=1,
    rounds=20,
    long_twins=("early_ack",),
    lacks=cannot_mount,
)


def _failing(play: Play) -> Verdict:
    return under_traffic(play, fail)


def _no_files(play: Play) -> Verdict:
    limits = Limits(open_files=OPEN_FILES)
    process = EventsProcess(play.folder / "data", play.module, limits=limits)
    return under_traffic(play, exhaust_files, open_scene(play, process))


FAILING = Fault(
    11,
    "the disk gives EIO, or can only be read, while it ingests",
    _failing,
    twins={"unfenced": 1, "skips_failed_flush": 2},
    rounds=12,
    lacks=cannot_trace,
)
NO_FILES = Fault(
    12,
    "no file can be opened any more while it ingests",
    _no_files,
    twins={"skips_failed_flush": 2},
    rounds=12,
)
