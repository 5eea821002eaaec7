"""The assignment service that does not look whether a repeated request is the same."""

from __future__ import annotations

from tests.robustness.twins.replaced import replace, serve_assignment


def same(_request: object) -> str:
    """Stands in for the digest of a request."""
    return "0" * 64


if __name__ == "__main__":
    replace("shared.mutations", "body_digest", same)
    serve_assignment()
