"""The Markov model and its parameters."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Markov:
    """Removal effects of the order-1 chain, with or without the journeys that did not convert."""

    ignore_non_converting: bool = False
