"""Events as the parts of the service hand them on to each other."""

import hashlib
from collections.abc import Sequence

from services.events.adapters.arrow_codec import ArrowCodec
from services.events.batch import Batch, portions_of
from services.events.domain.event import Event, fingerprint_prefix


def batch_of(*events: Event, project: str = "acme", receive_time_us: int = 42) -> Batch:
    """New events of a project."""
    portions = portions_of(list(enumerate(events)))
    return Batch(project, receive_time_us, tuple((p, p.digests()) for p in portions))


def entry_of(*batches: Batch) -> bytes:
    """An entry of the journal."""
    return ArrowCodec().encode(batches)


def digest_of(event: Event) -> int:
    """The digest of an event's content."""
    ((_, digests),) = batch_of(event).parts
    return int(digests[0])


def digests_of(events: Sequence[Event]) -> list[int]:
    """The digest of each."""
    return [digest_of(event) for event in events]


def fingerprint_of(project: str, event_id: str) -> bytes:
    """The fingerprint of an event id."""
    text = fingerprint_prefix(project) + event_id.encode()
    return hashlib.md5(text, usedforsecurity=False).digest()
