"""The assignment service that breaks when more come than it serves at once."""

from __future__ import annotations

from typing import Any

from tests.robustness.twins.replaced import replace, serve_assignment


def overloaded(_message: str, _retry_after_s: float) -> Any:
    """Stands in for the error that asks the caller to come again."""
    return RuntimeError("no place")


if __name__ == "__main__":
    replace("shared.server.capacity", "overloaded", overloaded)
    serve_assignment()
