"""The events service that knows an event by its id alone, whatever project it is of."""

from __future__ import annotations

from tests.robustness.twins.replaced import replace, serve


def no_prefix(_project: str) -> bytes:
    """Stands in for the prefix of a project."""
    return b"\x1f"


if __name__ == "__main__":
    replace("services.events.application.log_events", "fingerprint_prefix", no_prefix)
    serve()
