"""The assignment service that takes whatever file of rules lies on the disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from shared.clock import SystemClock
from tests.robustness.twins.replaced import part, replace, serve_assignment

MODULE = "services.assignment.adapters.disk_snapshots"


def read(path: Path, project: str) -> Any:
    """Stands in for the function that refuses damaged files."""
    body = path.read_bytes().split(b"\n", 2)[2]
    return part(MODULE, "KeptRuleset")(project, 1, SystemClock().now(), body)


if __name__ == "__main__":
    replace(MODULE, "_read", read)
    serve_assignment()
