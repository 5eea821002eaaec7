"""The Markov model and its parameters."""

from dataclasses import dataclass

from shared.errors import invalid

MAX_ORDER = 10
HIGHEST_TRIED = 4


@dataclass(frozen=True, slots=True)
class Markov:
    """Removal effects of the chain of an order, with or without journeys that did not convert.

    A state of order k is the last k touches. Over many channels the highest order is lower than
    MAX_ORDER; see `largest_order`.
    """

    ignore_non_converting: bool = False
    order: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.order <= MAX_ORDER:
            raise invalid("markov.order", self.order, f"1 to {MAX_ORDER}")


@dataclass(frozen=True, slots=True)
class AutomaticMarkov:
    """The Markov model of the order that held-out journeys choose, from 1 to `highest_order`."""

    ignore_non_converting: bool = False
    highest_order: int = HIGHEST_TRIED

    def __post_init__(self) -> None:
        if not 1 <= self.highest_order <= MAX_ORDER:
            raise invalid("markov.highest_order", self.highest_order, f"1 to {MAX_ORDER}")
