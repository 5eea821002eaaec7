"""What a log file says last."""

from __future__ import annotations

from pathlib import Path

_TAIL_BYTES = 16 * 1024


def last_error(log: Path) -> str:
    """What the last `error:` line says; without one the last line; else where to look."""
    try:
        with log.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - _TAIL_BYTES))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return f"read {log}"
    written = [line.strip() for line in lines if line.strip()]
    for line in reversed(written):
        if line.startswith("error: "):
            return line.removeprefix("error: ")
    if not written:
        return f"it wrote nothing to {log}"
    return f"{written[-1]} (see {log})"
