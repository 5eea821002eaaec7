"""The events service that takes the write-ahead log of its journal as it finds it."""

from __future__ import annotations

from pathlib import Path

from tests.robustness.twins.replaced import replace, serve


def trust(_path: Path) -> None:
    """Stands in for the looks at a log before SQLite reads it."""


if __name__ == "__main__":
    replace("services.events.adapters.sqlite_journal", "require_log", trust)
    replace("services.events.adapters.sqlite_file", "_check_log", trust)
    serve()
