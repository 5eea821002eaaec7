"""Whether the data can be trusted: sizes of the arms, skewness, and who is counted in full."""

from dataclasses import dataclass

import numpy as np
from scipy import special

from touchstone_statistics.gaps import (
    BoolArray,
    FloatArray,
    Gap,
    GapArray,
    NotEstimable,
    first_gap,
    quotient,
)
from touchstone_statistics.sequential_ratio import exact_sample_ratio

ALERT_BELOW = 0.001
FEW_EXPECTED = 5.0
"""Where an arm is expected to hold fewer units, Pearson's statistic is not nearly chi-squared."""
SKEW_FACTOR = 355.0


@dataclass(frozen=True, slots=True, eq=False)
class SampleRatio:
    """Chi-squared test of the observed sizes of the arms against their weights.

    `expected` has one entry an arm, in units. `unexpected_units` counts units in arms of zero
    weight, which no correct assignment can produce; any of them is an alert as well.
    `deviation` is the largest relative deviation of an arm from its expected size: with very
    many units an alert can be right and yet small.
    """

    statistic: float | NotEstimable
    dof: int
    p_value: float | NotEstimable
    expected: FloatArray
    unexpected_units: int
    deviation: float | NotEstimable

    @property
    def alert(self) -> bool:
        """True when the split is so unlikely that the results must not be trusted."""
        mismatch = isinstance(self.p_value, float) and self.p_value < ALERT_BELOW
        return mismatch or self.unexpected_units > 0


def sample_ratio(units: FloatArray, weights: FloatArray) -> SampleRatio:
    """Test whether units fell into the arms in proportion to the weights.

    Source: Pearson (1900), the sum of (observed - expected)^2 / expected with one degree of
    freedom less than there are arms of positive weight; threshold of Fabijan et al. (2019),
    "Diagnosing sample ratio mismatch in online controlled experiments". `units` and `weights`
    have one entry an arm; weights are relative and not negative. Arms of zero weight count
    neither in the sum nor in the degrees of freedom. Assumes that units are independent. An
    alert in few units is confirmed by the exact multinomial test, whose p-value then stands.
    """
    _check_weights(weights)
    live = weights > 0
    unexpected = int(units[~live].sum())
    dof = max(int(live.sum()) - 1, 0)
    expected = _expected(units, weights)
    gap = Gap.NOT_APPLICABLE if dof < 1 else Gap.NO_UNITS
    if dof < 1 or expected.sum() == 0:
        missing = NotEstimable(gap)
        return SampleRatio(missing, dof, missing, expected, unexpected, missing)
    statistic = float(_contributions(units, expected).sum())
    p_value = _confirmed(float(special.chdtrc(dof, statistic)), units, weights, expected)
    deviation = float(np.abs(units[live] / expected[live] - 1.0).max())
    return SampleRatio(statistic, dof, p_value, expected, unexpected, deviation)


@dataclass(frozen=True, slots=True)
class LikelyCause:
    """The value of a dimension that disagrees most with the weights.

    `arm` lacks about `missing_units` units there, if nothing was added to the other arms: loss
    is by far the commoner fault (Fabijan et al. 2019). `share` is the part of the
    summed statistics of all values that comes from this one; `p_value_without` is that of the
    overall test when its units are left out, so a high one says that the fault is there alone.
    """

    value: int
    arm: int
    missing_units: float
    share: float
    p_value_without: float | NotEstimable


@dataclass(frozen=True, slots=True, eq=False)
class SampleRatioByValue:
    """The sample ratio within each value of a dimension, for instance each browser.

    Arrays have one entry a value. `adjusted_p` is Bonferroni's over the values that could be
    tested, and `alert` compares it with the threshold of the overall test.
    """

    statistic: FloatArray
    p_value: FloatArray
    adjusted_p: FloatArray
    alert: BoolArray
    gap: GapArray
    cause: LikelyCause | None


def sample_ratio_by_value(units: FloatArray, weights: FloatArray) -> SampleRatioByValue:
    """Test the sample ratio in each value of a dimension and name the likely cause of an alert.

    `units` has shape (values, arms), `weights` (arms,). A value may only be one that is known
    before or independently of the exposure (a device, a country), not one that the treatment
    can change. Source of the test and the care for few units as in `sample_ratio`.
    """
    _check_weights(weights)
    dof = int((weights > 0).sum()) - 1
    expected = _expected(units, weights)
    statistic = _contributions(units, expected).sum(axis=-1)
    unexpected = units[:, weights == 0].sum(axis=-1) > 0
    none = np.where(expected.sum(axis=-1) == 0, Gap.NO_UNITS, Gap.NONE)
    gap = np.where(dof < 1, Gap.NOT_APPLICABLE, none).astype(np.uint8)
    known = gap == Gap.NONE
    p_value = np.where(known, special.chdtrc(max(dof, 1), statistic), 1.0)
    tested = max(int(known.sum()), 1)
    for value in np.flatnonzero(known & (p_value * tested < ALERT_BELOW)):
        p_value[value] = _confirmed(float(p_value[value]), units[value], weights, expected[value])
    adjusted = np.minimum(p_value * tested, 1.0)
    mismatch = known & (adjusted < ALERT_BELOW)
    cause = None
    if mismatch.any():
        worst = int(np.argmax(np.where(mismatch, statistic, -np.inf)))
        cause = _likely_cause(units, weights, worst, float(statistic[worst] / statistic.sum()))
    return SampleRatioByValue(statistic, p_value, adjusted, mismatch | unexpected, gap, cause)


def _likely_cause(units: FloatArray, weights: FloatArray, value: int, share: float) -> LikelyCause:
    counts, expected = units[value], _expected(units[value], weights)
    residual = quotient(counts - expected, np.sqrt(expected), np.inf)
    arm = int(np.argmin(residual))
    live = weights > 0
    others = float(counts[live].sum() - counts[arm])
    # What the arm would hold if all others have their share of a larger total.
    missing = others * weights[arm] / (weights.sum() - weights[arm]) - counts[arm]
    rest = sample_ratio(np.delete(units, value, axis=0).sum(axis=0), weights)
    return LikelyCause(value, arm, float(missing), share, rest.p_value)


def _confirmed(
    p_value: float, units: FloatArray, weights: FloatArray, expected: FloatArray
) -> float:
    """The p-value, or in place of a small one in few units that of the exact test."""
    if p_value >= ALERT_BELOW or expected[weights > 0].min() >= FEW_EXPECTED:
        return p_value
    exact = exact_sample_ratio(units, weights)
    return exact if isinstance(exact, float) else p_value


def _check_weights(weights: FloatArray) -> None:
    if not (np.isfinite(weights).all() and (weights >= 0).all()):
        raise ValueError(f"weights are {weights.tolist()}; they must be finite and not negative")


def _expected(units: FloatArray, weights: FloatArray) -> FloatArray:
    """Units each arm should have, given how many the arms of positive weight have together."""
    live = weights > 0
    total = units[..., live].sum(axis=-1, keepdims=True)
    return np.asarray(total * quotient(weights, weights.sum(), 0.0))


def _contributions(units: FloatArray, expected: FloatArray) -> FloatArray:
    return quotient((units - expected) ** 2 * (expected > 0), expected, 0.0)


@dataclass(frozen=True, slots=True, eq=False)
class Skewness:
    """Whether an arm has units enough for a mean as skewed as this to be nearly normal.

    `value` is the sample skewness, `units_needed` the least number of units, and `short` says
    that there are fewer. A short arm does most harm when arms differ in size: with arms of the
    same size and shape the skewness of the difference cancels.
    """

    value: FloatArray
    units_needed: FloatArray
    short: BoolArray
    gap: GapArray


def skewness(units: FloatArray, variance: FloatArray, third_moment: FloatArray) -> Skewness:
    """Skewness of a metric over units, and the sample size that it asks for.

    Source: Kohavi, Deng, Longbotham and Xu (2014), "Seven rules of thumb for web site
    experimenters", rule 7: at least 355 s^2 units an arm, with skewness s, keep the tails of a
    nominal 95 % interval near 2.5 % each; from the Edgeworth expansion of Boos and
    Hughes-Oliver (2000). `third_moment` is the mean of cubed deviations from the mean,
    `variance` that of squares or the sample variance. All arrays share a shape (arms, metrics).
    """
    empty = np.where(units < 1, Gap.NO_UNITS, Gap.NONE).astype(np.uint8)
    single = np.where(units < 2, Gap.ONE_UNIT, Gap.NONE).astype(np.uint8)
    flat = np.where(variance <= 0, Gap.ZERO_VARIANCE, Gap.NONE).astype(np.uint8)
    gap = first_gap(empty, single, flat)
    value = quotient(third_moment, np.maximum(variance, 0.0) ** 1.5, 0.0)
    needed = np.ceil(SKEW_FACTOR * value**2)
    return Skewness(value, needed, (gap == Gap.NONE) & (units < needed), gap)


@dataclass(frozen=True, slots=True, eq=False)
class Completeness:
    """Share of exposed units whose whole window has passed, so that they count in full."""

    share: FloatArray
    gap: GapArray


def completeness(complete_units: FloatArray, exposed_units: FloatArray) -> Completeness:
    """Share of complete cohorts by arm or by metric; both arrays share a shape."""
    if (complete_units > exposed_units).any():
        raise ValueError("complete_units exceed exposed_units; they must be a part of them")
    gap = np.where(exposed_units <= 0, Gap.NO_UNITS, Gap.NONE).astype(np.uint8)
    return Completeness(quotient(complete_units, exposed_units, 0.0), gap)
