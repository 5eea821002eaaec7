"""The events service that leaves out what it could not write to the tables."""

from __future__ import annotations

import contextlib

from services.events.domain.limits import Limits
from services.events.ports import EventSink, Journal
from tests.robustness.twins.replaced import replace, serve


def flush_or_forget(journal: Journal, sink: EventSink, limits: Limits) -> bool:
    """Stands in for `flush`."""
    entries = journal.read(sink.position, limits.flush_bytes)
    if entries:
        with contextlib.suppress(Exception):
            sink.store(entries)
        journal.trim(entries[-1].position)
    return False


if __name__ == "__main__":
    replace("services.events.composition.core", "flush", flush_or_forget)
    serve()
