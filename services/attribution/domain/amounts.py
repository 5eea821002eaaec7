"""Sums of amounts of money as they are written: whole cents in are whole cents out.

A double holds 2.26 as a binary fraction nearby. Exact sums of these, rounded, may miss the amount
that a book shows by the last digit; here what is summed are the shortest decimals that the doubles
stand for, which are the amounts that were sent.
"""

from collections.abc import Iterable
from decimal import Context, Decimal

_EXACT = Context(prec=400)
"""Room for the digits of any two amounts up to 1e15 and of their products."""


def written(amount: float) -> Decimal:
    """The amount as it is written."""
    return Decimal(repr(float(amount)))


def written_sum(amounts: Iterable[float]) -> Decimal:
    """The exact sum of amounts as they are written."""
    total = Decimal(0)
    for amount in amounts:
        total = _EXACT.add(total, written(amount))
    return total


def sum_of_amounts(amounts: Iterable[float]) -> float:
    """The sum, as the double that is nearest to it."""
    return float(written_sum(amounts))


def times(amount: float, rate: float) -> float:
    """The amount at a rate, as the double that is nearest to it."""
    return float(_EXACT.multiply(written(amount), written(rate)))
