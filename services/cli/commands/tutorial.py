"""touchstone tutorial: see it work, beside the truth."""

from __future__ import annotations


def tutorial() -> None:
    """Play."""
