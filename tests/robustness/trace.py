"""What a process does to its files, by strace."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.robustness.faults import EventsProcess
from tests.robustness.launcher import Limits

CHANGES = (
    "openat,write,pwrite64,ftruncate,rename,renameat,renameat2,link,linkat,unlink,unlinkat,"
    "mkdir,mkdirat,rmdir,fsync,fdatasync"
)
ATTACH_S = 20.0
_CALL = re.compile(r"(\d+\.\d+) (\w+)\((.*)\) += (-?\d+)(?:<([^>]*)>)?.* <(\d+\.\d+)>$")
_TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
_FILE = re.compile(r"(\d+)<((?:\\x[0-9a-f]{2})*)[^>]*>")


@dataclass(frozen=True, slots=True)
class Step:
    """A system call that succeeded, by the wall clock."""

    start_s: float
    end_s: float
    thread: str
    name: str
    descriptor: int
    """The file descriptor it is about, or that it opened; -1 when it names files by path."""
    path: Path
    """The file of the descriptor, or the first path it names."""
    texts: tuple[bytes, ...]
    """Its text arguments: paths, or what it wrote."""
    arguments: str


def cannot_trace() -> str:
    """Why no process can be traced here."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    done = subprocess.run(["strace", "-o", "/dev/null", "true"], capture_output=True, check=False)
    return "" if done.returncode == 0 else "this user may not trace processes"


class Tracer:
    """strace on one process and all its threads. Close it after the process has ended."""

    def __init__(self, process: EventsProcess, *options: str) -> None:
        command = ["strace", "-f", *options, "-p", str(process.pid)]
        self._strace = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        self._wait_attached(process.pid)

    def close(self) -> None:
        """Wait until it has written everything."""
        try:
            self._strace.wait(ATTACH_S)
        except subprocess.TimeoutExpired:
            self._strace.terminate()
            self._strace.wait()
        if self._strace.stderr is not None:
            self._strace.stderr.close()

    def detach(self) -> None:
        """Let the process go on alone."""
        self._strace.terminate()
        self.close()

    def _wait_attached(self, process_id: int) -> None:
        end = time.monotonic() + ATTACH_S
        tasks = Path(f"/proc/{process_id}/task")
        while not all(_traced(task / "status") for task in tasks.iterdir()):
            if time.monotonic() > end or self._strace.poll() is not None:
                raise AssertionError(f"strace cannot attach to {process_id}")
            time.sleep(0.01)


def begin_traced(process: EventsProcess, *options: str) -> Tracer:
    """Start a process that is traced from its first step."""
    process.begin(Limits(stopped=True))
    while "T (stopped)" not in _status(Path(f"/proc/{process.pid}/status")):
        time.sleep(0.01)
    tracer = Tracer(process, *options)
    os.kill(process.pid, signal.SIGCONT)
    return tracer


@contextlib.contextmanager
def injected(process: EventsProcess, calls: str, what: str) -> Iterator[None]:
    """Within the block some system calls of a process end in another way."""
    quiet = ("-o", "/dev/null", "-e", f"trace={calls}", "-e", "signal=none")
    tracer = Tracer(process, *quiet, "-e", f"inject={calls}:{what}")
    try:
        yield
    finally:
        tracer.detach()


def recording(folder: Path) -> tuple[str, ...]:
    """The options that write down every change of files, with its bytes, a file a thread."""
    return (
        *("-ff", "-o", str(folder / "trace"), "-y", "-ttt", "-T", "-xx"),
        *("-s", "8000000", "-e", f"trace={CHANGES}", "-e", "signal=none"),
    )


def steps(folder: Path, below: Path) -> list[Step]:
    """The recorded changes of files below a folder, in the order in which they ended."""
    found = [
        step
        for file in folder.glob("trace.*")
        for step in _parsed(file)
        if step.path.is_relative_to(below)
    ]
    return sorted(found, key=lambda step: step.end_s)


def _parsed(file: Path) -> Iterator[Step]:
    for line in file.read_text(errors="replace").splitlines():
        match = _CALL.match(line)
        if match is None or int(match[4]) < 0:
            continue
        start, name, arguments, result, opened, took = match.groups()
        texts = tuple(_bytes(text) for text in _TEXT.findall(arguments))
        descriptor = _FILE.match(arguments)
        if name == "openat" and opened is not None:
            number, path = int(result), _bytes(opened)
        elif descriptor is not None:
            number, path = int(descriptor[1]), _bytes(descriptor[2])
        else:
            number, path = -1, texts[0] if texts else b""
        begun = float(start)
        yield Step(
            begun,
            begun + float(took),
            file.suffix,
            name,
            number,
            Path(os.fsdecode(path.removesuffix(b" (deleted)"))),
            texts,
            _TEXT.sub("", arguments),
        )


def _bytes(hexadecimal: str) -> bytes:
    return bytes.fromhex(hexadecimal.replace("\\x", ""))


def _status(file: Path) -> str:
    try:
        return file.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _traced(file: Path) -> bool:
    return "TracerPid:\t0\n" not in _status(file)
