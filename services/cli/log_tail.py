"""What a log file says last."""

from __future__ import annotations

from pathlib import Path

_TAIL_BYTES = 16 * 1024


_ERROR = "error: "


def last_error(log: Path, since_bytes: int = 0) -> str:
    """What the last `error:` says of what was written behind `since_bytes`; without one the last
    line; else where to look.
    """
    try:
        with log.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(since_bytes, file.tell() - _TAIL_BYTES))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return f"read {log}"
    written = [line.strip() for line in lines if line.strip()]
    for line in reversed(written):
        # It may stand behind what a library left without an end of line; a line of JSON is told
        # by the service about its work, and not why it ended.
        if _ERROR in line and not line.startswith("{"):
            return line.partition(_ERROR)[2]
    if not written:
        return f"it wrote nothing to {log}"
    return f"{written[-1]} (see {log})"
