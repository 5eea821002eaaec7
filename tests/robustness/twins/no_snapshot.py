"""The assignment service that reads nothing of what it kept on the disk."""

from __future__ import annotations

from typing import Any

from tests.robustness.twins.replaced import replace_method, serve_assignment


def load(_self: Any) -> list[Any]:
    """Stands in for load."""
    return []


if __name__ == "__main__":
    module = "services.assignment.adapters.disk_snapshots"
    replace_method(module, "DiskRulesets", "load", load)
    serve_assignment()
