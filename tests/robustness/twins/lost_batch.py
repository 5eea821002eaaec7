"""The events service that forgets what is in the journal before the tables hold it."""

from __future__ import annotations

from services.events.domain.limits import Limits
from services.events.ports import EventSink, Journal
from tests.robustness.twins.replaced import replace, serve


def flush_after_trim(journal: Journal, sink: EventSink, limits: Limits) -> bool:
    """Stands in for `flush`."""
    entries = journal.read(sink.position, limits.flush_bytes)
    if entries:
        journal.trim(entries[-1].position)
        sink.store(entries)
    return False


if __name__ == "__main__":
    replace("services.events.composition.core", "flush", flush_after_trim)
    serve()
