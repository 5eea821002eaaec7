"""Which rules are followed, and within which limits."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Settings:
    """The limits of a LocalAssignment. ValueError for a value that makes no sense."""

    project: str
    """The project whose rules these are. Rules of another one are refused, whatever the key is."""
    folder: Path | None = None
    """Where the last rules are kept for a start without the service. None: in memory only."""
    stale_after_s: float = 120.0
    """Rules that were not confirmed for longer are stale. They go on deciding."""
    ask_server: bool = False
    """Ask the service for what only it can decide. That call waits for the network."""
    ask_deadline_s: float = 0.25
    """How long such a call may take; then the caller's default holds."""
    id_lists: bool = False
    """Fetch the id lists of audiences too, for `member`: 8 bytes of memory an id."""
    id_list_deadline_s: float = 60.0
    """How long fetching one list may take."""
    first_retry_s: float = 1.0
    """The longest wait before the first reconnect; it doubles with each one."""
    longest_retry_s: float = 30.0
    """The longest wait between reconnects."""
    keepalive_s: float = 40.0
    """A connection that answers nothing for this long, and the time of a ping, is given up."""
    ruleset_bytes: int = 64 * 1024 * 1024
    """The largest rules that are taken."""
    close_s: float = 5.0
    """How long `close` waits for the thread."""

    def __post_init__(self) -> None:
        if not self.project:
            raise ValueError("project is ''; allowed: the id of the project that the key is of")
        for field in fields(self):
            value = getattr(self, field.name)
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if number and not 0 < value < float("inf"):
                raise ValueError(f"{field.name} is {value!r}; allowed: more than 0, and finite")
