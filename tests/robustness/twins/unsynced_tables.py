"""The events service that forgets what is in the journal before the tables are on the disk."""

from __future__ import annotations

from tests.robustness.twins.replaced import replace, serve


def leave_it(*_arguments: object) -> None:
    """Stands in for the sync of what was committed."""


if __name__ == "__main__":
    replace("shared.lake.table", "fsync_commits", leave_it)
    serve()
