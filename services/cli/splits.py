"""Weights of variants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import typer

Weights: TypeAlias = Sequence[tuple[str, int | None]]

WHOLE = 10_000


def parse_weight(text: str) -> tuple[str, int | None]:
    """KEY or KEY=WEIGHT."""
    key, separator, weight = text.rpartition("=")
    if not separator:
        return text, None
    if not (weight.isascii() and weight.isdigit() and 1 <= int(weight) <= WHOLE):
        raise typer.BadParameter(
            f"the weight of {key!r} is {weight!r}; allowed: a whole number from 1 to {WHOLE}"
        )
    return key, int(weight)


def relative_weights(given: Weights) -> Mapping[str, int]:
    """A weight for each key of which only the ratios count: 1 for all, or one given for each."""
    weights = dict(given)
    if len(weights) != len(given):
        raise typer.BadParameter("a variant is named twice; name each once")
    missing = [key for key, weight in weights.items() if weight is None]
    if missing and len(missing) < len(weights):
        raise typer.BadParameter(f"{missing[0]!r} has no weight; give every variant one, or none")
    return {key: 1 if weight is None else weight for key, weight in weights.items()}


def with_equal_weights(given: Weights) -> Mapping[str, int]:
    """A weight for each key. Those without one share what the others leave, as evenly as whole
    numbers allow; the first ones get what is left over.
    """
    weights = dict(given)
    if len(weights) != len(given):
        raise typer.BadParameter("a variant is named twice; name each once")
    free = WHOLE - sum(weight for weight in weights.values() if weight is not None)
    open_keys = [key for key, weight in weights.items() if weight is None]
    if (not open_keys and free != 0) or free < len(open_keys):
        raise typer.BadParameter(
            f"the weights given sum to {WHOLE - free}; allowed: {WHOLE} over all variants, at "
            "least 1 for each"
        )
    shares = {
        key: free // len(open_keys) + (place < free % len(open_keys))
        for place, key in enumerate(open_keys)
    }
    return {key: shares[key] if weight is None else weight for key, weight in weights.items()}
