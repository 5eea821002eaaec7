"""The assignment service that does not remember what it answered."""

from __future__ import annotations

from tests.robustness.twins.replaced import replace, serve_assignment


def nothing(*_arguments: object) -> None:
    """Stands in for the look at what was answered before."""


if __name__ == "__main__":
    replace("shared.mutations", "_stored_reply", nothing)
    serve_assignment()
