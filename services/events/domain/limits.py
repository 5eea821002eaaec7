"""What the events service accepts."""

from dataclasses import dataclass

MICROSECONDS = 1_000_000


@dataclass(frozen=True, slots=True)
class Limits:
    """Every limit that is not a rule of the contract itself."""

    event_lead_s: int = 25 * 3600
    """How far an event time may lie ahead of its receipt: any time zone, plus an hour of error."""
    properties_bytes: int = 16 * 1024
    """Size of an event's properties as encoded by the sender."""
    inline_bytes: int = 256 * 1024
    """Requests above this are worked on in a thread: they would hold up every other call."""
    threads: int = 2
    """How many such requests are worked on at once; they share one interpreter with all others."""
    kept_payload_bytes: int = 64 * 1024
    """How much of a rejected event is kept."""
    kept_rejections: int = 100_000
    """How many rejected events of a project are kept; its oldest go first."""
    kept_rejection_bytes: int = 64 * 1024 * 1024
    """How many bytes the payloads of a project's rejected events take; its oldest go first."""
    queued_bytes: int = 64 * 1024 * 1024
    """Batches that wait for the disk; more callers are sent away to retry."""
    queued_rejection_bytes: int = 32 * 1024 * 1024
    """Rejected events that wait to be kept; more callers are sent away to retry."""
    project_rejection_bytes: int = 8 * 1024 * 1024
    """Those of one project: what it sends must leave room for others."""
    group_bytes: int = 8 * 1024 * 1024
    """Batches, or rejected events, that go to the disk in one sync."""
    backlog_bytes: int = 4 * 1024 * 1024 * 1024
    """Acknowledged batches that are not in the tables yet; more callers are sent away to retry."""
    flush_bytes: int = 32 * 1024 * 1024
    """Batches that go to the tables in one commit."""
    dedupe_window_days: int = 30
    """How long an event id is remembered; 24 bytes of memory an event."""
