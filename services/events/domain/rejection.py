"""Why an event was not stored."""

import enum
from dataclasses import dataclass, replace


class Reason(enum.Enum):
    """The values are the names of touchstone.events.v1.RejectionReason without their prefix."""

    INVALID_FIELD = "INVALID_FIELD"
    EVENT_TIME_OUT_OF_RANGE = "EVENT_TIME_OUT_OF_RANGE"
    CONFLICTING_DUPLICATE = "CONFLICTING_DUPLICATE"
    TOO_LARGE = "TOO_LARGE"
    UNIT_ERASED = "UNIT_ERASED"


@dataclass(frozen=True, slots=True)
class Rejection:
    """One item of a batch that is not stored: what is wrong, which value, what is allowed."""

    event_id: str
    reason: Reason
    field: str
    message: str


@dataclass(frozen=True, slots=True)
class RejectedEvent:
    """A rejected event as it is kept."""

    project: str
    rejection: Rejection
    receive_time_us: int
    source: str
    payload: bytes
    """The event as the sender encoded it."""
    door: str = ""
    """The way it came in; empty when it is not known."""
    truncated: bool = False
    """Whether the payload is only its beginning."""


@dataclass(frozen=True, slots=True)
class KeptEvent:
    """A rejected event as it is listed: without its payload. Numbers ascend with time."""

    number: int
    event: RejectedEvent
    payload_bytes: int


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which rejected events are meant: those to which everything that is given applies."""

    reasons: frozenset[Reason] = frozenset()
    source: str = ""
    event_id: str = ""
    start_us: int | None = None
    """Received at this time or later, in microseconds since 1970."""
    end_us: int | None = None
    """Received before this time."""

    def admits(self, event: RejectedEvent) -> bool:
        """Whether the event is meant."""
        return (
            (not self.reasons or event.rejection.reason in self.reasons)
            and self.source in ("", event.source)
            and self.event_id in ("", event.rejection.event_id)
            and (self.start_us is None or self.start_us <= event.receive_time_us)
            and (self.end_us is None or event.receive_time_us < self.end_us)
        )


def as_kept(event: RejectedEvent, payload_bytes: int) -> RejectedEvent:
    """What may be kept of a rejected event: at most so many bytes of its payload, and of an erased
    unit no more than that there was something.
    """
    if event.rejection.reason is Reason.UNIT_ERASED:
        bare = Rejection(event.rejection.event_id, Reason.UNIT_ERASED, "unit", ERASED)
        return replace(event, rejection=bare, source="", payload=b"", truncated=False)
    if len(event.payload) <= payload_bytes:
        return event
    return replace(event, payload=event.payload[:payload_bytes], truncated=True)


ERASED = "was erased after this happened; nothing of the event is kept"
