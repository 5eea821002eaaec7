"""Sums of products of figures, some of them measured, with the exact error that these give them.

A figure that stands in several products is one random number there, not several: what an
experiment overstates in one product it overstates in all of them. So the errors of products that
share a figure add up instead of cancelling out.
"""

import math
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count

from services.attribution.domain.lift import Estimate


@dataclass(frozen=True, slots=True)
class Factor:
    """An estimate in a product. Factors of the same `figure` are the same random number.

    None: like no other.
    """

    estimate: Estimate
    figure: Hashable = None


@dataclass(frozen=True, slots=True)
class Term:
    """A product of factors, added or (`sign` -1) taken away.

    Factors of one term are independent, even those that say that they are the same figure.
    """

    factors: tuple[Factor, ...]
    sign: float = 1.0

    @property
    def value(self) -> float:
        """The product of the estimates."""
        return self.sign * math.prod(factor.estimate.value for factor in self.factors)


def product_of(parts: Sequence[Estimate]) -> Estimate:
    """Return the product of independent estimates with its exact standard error.

    Source: Goodman (1960), "On the exact variance of products", equation 2, for any number of
    factors: the product of (mean^2 + variance) less the product of mean^2.
    """
    return sum_of([Term(tuple(Factor(part) for part in parts))])


def sum_of(terms: Sequence[Term]) -> Estimate:
    """Return the sum of the terms with its exact standard error.

    The variance of a sum is the sum of all covariances, and that of two products is the product of
    the means of what only one of them holds times Goodman's variance of what both hold.
    """
    uncertain = [_uncertain(term) for term in terms]
    holding: dict[Hashable, list[int]] = defaultdict(list)
    for number, figures in enumerate(uncertain):
        for figure in figures:
            holding[figure].append(number)
    together = {
        (one, other) for numbers in holding.values() for one in numbers for other in numbers
    }
    variance = math.fsum(
        _covariance((terms[one], uncertain[one]), (terms[other], uncertain[other]))
        for one, other in sorted(together)
    )
    value = math.fsum(term.value for term in terms)
    return Estimate(value, math.sqrt(max(variance, 0.0)))


_Uncertain = Mapping[Hashable, tuple[int, Estimate]]


def _uncertain(term: Term) -> _Uncertain:
    """The factors that have an error, by figure, and where each stands in the term."""
    own = count()
    found: dict[Hashable, tuple[int, Estimate]] = {}
    for place, factor in enumerate(term.factors):
        if factor.estimate.std_err:
            alone = factor.figure is None or factor.figure in found
            figure = (id(term), next(own)) if alone else factor.figure
            found[figure] = (place, factor.estimate)
    return found


def _covariance(one: tuple[Term, _Uncertain], other: tuple[Term, _Uncertain]) -> float:
    both = one[1].keys() & other[1].keys()
    means = math.prod(
        term.sign * _mean(term, [uncertain[figure][0] for figure in both])
        for term, uncertain in (one, other)
    )
    # The product of (m^2 + v) less that of m^2, without a difference of nearly equal numbers.
    squared, spread = 1.0, 0.0
    for figure in sorted(both, key=lambda figure: one[1][figure][0]):
        estimate = one[1][figure][1]
        mean, variance = estimate.value**2, estimate.std_err**2
        squared, spread = squared * mean, spread * (mean + variance) + squared * variance
    return means * spread


def _mean(term: Term, without: Sequence[int]) -> float:
    """The product of the means of all factors but those at these places."""
    left = (f.estimate.value for place, f in enumerate(term.factors) if place not in without)
    return math.prod(left)
