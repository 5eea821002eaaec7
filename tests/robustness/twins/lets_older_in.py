"""The events service that leaves its journal to programs that cannot write its tables."""

from __future__ import annotations

from tests.robustness.twins.replaced import replace, serve

if __name__ == "__main__":
    replace("services.events.adapters.sqlite_journal", "VERSION", 1)
    serve()
