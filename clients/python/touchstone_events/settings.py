"""Where events go, and within which limits."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

# A key that is refused is mended by its operator, and events must not be lost until then.
_OF_THE_KEY = frozenset({"UNAUTHENTICATED", "PERMISSION_DENIED"})
RETRYABLE = _OF_THE_KEY | {"UNAVAILABLE", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED", "ABORTED"}


@dataclass(frozen=True, slots=True)
class Tls:
    """Whom to trust, and what to present under mutual TLS: PEM files."""

    ca: Path
    certificate: Path | None = None
    key: Path | None = None

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("Tls has only one of certificate and key; give both or none")


@dataclass(frozen=True, slots=True)
class Service:
    """An events service. A `key` that is a function is asked before every call."""

    address: str
    key: str | Callable[[], str]
    tls: Tls | None = None
    allow_plaintext: bool = False
    """Send the key and the events unencrypted to another machine."""

    def __post_init__(self) -> None:
        host = self.address.rpartition(":")[0]
        if not host:
            raise ValueError(f"address is {self.address!r}; allowed: host:port")
        if self.tls is None and not self.allow_plaintext and not _loopback(host):
            raise ValueError(
                f"address is {self.address!r} without tls; allowed: a loopback address, or tls, or "
                "allow_plaintext=True where the network itself is private"
            )

    def __repr__(self) -> str:
        """Without the key: it must not reach a log."""
        return f"Service(address={self.address!r}, tls={self.tls!r})"


@dataclass(frozen=True, slots=True)
class Settings:
    """The limits of a sender. ValueError for a value that makes no sense."""

    source: str = ""
    """The program that sends, such as "checkout-backend"."""
    batch_events: int = 1000
    """Events in one call; the service takes 5,000."""
    batch_bytes: int = 512 * 1024
    """Bytes in one call, unless a single event is larger."""
    batch_age_s: float = 0.2
    """How long an event waits for others to go with it; at most twice as long under load."""
    queue_events: int = 100_000
    """Events held in memory; more go to the spool, or are dropped."""
    queue_bytes: int = 64 * 1024 * 1024
    """Encoded bytes held in memory."""
    event_bytes: int = 64 * 1024
    """The largest event that is taken."""
    deadline_s: float = 10.0
    """How long one call may take."""
    first_retry_s: float = 0.1
    """The longest wait before the first retry; it doubles with each one."""
    longest_retry_s: float = 30.0
    """The longest wait between retries."""
    retry_codes: frozenset[str] = RETRYABLE
    """gRPC codes after which the same call is repeated. Others end a batch."""
    spool_folder: Path | None = None
    """Where events wait on disk. None: they wait in memory only."""
    spool_bytes: int = 256 * 1024 * 1024
    """The most that one process keeps on disk."""
    segment_bytes: int = 4 * 1024 * 1024
    """Size of one file of the spool: after a crash at most so much is sent again."""
    close_s: float = 5.0
    """How long the end of the program waits for what is not sent yet."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, int | float) and not 0 < value < float("inf"):
                raise ValueError(f"{field.name} is {value!r}; allowed: more than 0, and finite")
        if self.batch_events > 5000:
            raise ValueError(f"batch_events is {self.batch_events}; allowed: 1 to 5000")
        if self.spool_bytes < self.segment_bytes:
            raise ValueError(
                f"spool_bytes is {self.spool_bytes}; allowed: at least segment_bytes, "
                f"{self.segment_bytes}"
            )


def _loopback(host: str) -> bool:
    name = host.strip("[]")
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
