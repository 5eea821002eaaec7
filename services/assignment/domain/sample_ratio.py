"""Do the units that were assigned stand in the proportions of the design?

Pearson (1900), "On the criterion that a given system of deviations...", Philosophical Magazine
50: X^2 = sum (observed - expected)^2 / expected, which under the design is chi-square with one
degree of freedom less than there are variants, when no expected count is small.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import scipy  # its statistics load when they are first used: they take most of a second

LEAST_EXPECTED = 5.0
"""Units that each variant should have before the approximation is used (Cochran 1954)."""


@dataclass(frozen=True, slots=True)
class VariantCount:
    """A variant, the different units that got it, and how many would have by the design."""

    variant: str
    units: int
    expected: float


@dataclass(frozen=True, slots=True)
class SampleRatio:
    """The variants, and the test; None where too few units were seen to tell."""

    variants: tuple[VariantCount, ...]
    statistic: float | None
    p_value: float | None


def sample_ratio(weights: Sequence[tuple[str, int]], counts: Mapping[str, int]) -> SampleRatio:
    """Test the counts by variant against the weights, of which only the ratios count.

    A variant of weight 0 takes no part; a unit in one makes the p-value 0.
    """
    in_all = sum(counts.get(variant, 0) for variant, _ in weights)
    total = sum(weight for _, weight in weights)
    variants = tuple(
        VariantCount(variant, counts.get(variant, 0), in_all * weight / (total or 1))
        for variant, weight in weights
    )
    possible = [variant for variant in variants if variant.expected]
    if len(possible) < 2 or min(v.expected for v in possible) < LEAST_EXPECTED:
        return SampleRatio(variants, None, None)
    if any(v.units for v in variants if not v.expected):
        return SampleRatio(variants, None, 0.0)
    statistic = sum((v.units - v.expected) ** 2 / v.expected for v in possible)
    return SampleRatio(
        variants, statistic, float(scipy.stats.chi2.sf(statistic, len(possible) - 1))
    )
