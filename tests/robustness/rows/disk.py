"""Rows 10 and 11: a disk that is full, and one on which nothing can be written or synced."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.robustness.fault import Fault, Play, Scene, under_traffic
from tests.robustness.model import Verdict

DISK_MB = 96
FULL_S = 1.2
NOTICED_S = 20.0


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


def freeze(scene: Scene) -> None:
    """Make the disk read-only, as a kernel does after an error of the disk, then replace it.

    The process may acknowledge nothing meanwhile; somebody restarts it afterwards.
    """
    mount = scene.play.folder
    before = len(scene.history.calls)
    frozen = subprocess.run(["mount", "-o", "remount,ro", str(mount)], check=False)
    if frozen.returncode:
        # A file that is open for writing keeps a disk from it; taking the space away does not.
        fill(scene)
        return
    time.sleep(FULL_S)
    told = [call for call in scene.history.calls[before:] if call.outcome.name == "OK"]
    subprocess.run(["mount", "-o", "remount,rw", str(mount)], check=True)
    if len(told) > len(scene.target.keys) * 4:
        scene.history.complain("acknowledged", f"{len(told)} calls on a read-only disk")
    scene.process.kill()
    scene.process.start()


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
    lacks=cannot_mount,
)
