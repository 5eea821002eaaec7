"""Post-stratification: the same mix of strata in every arm, whatever chance made of it."""

from dataclasses import dataclass

import numpy as np

from touchstone_statistics.contrast import Joint
from touchstone_statistics.estimand import Estimand, Estimate, estimate
from touchstone_statistics.gaps import BoolArray, FloatArray, GapArray, quotient
from touchstone_statistics.moments import Moments, merge


@dataclass(frozen=True, slots=True, eq=False)
class Poststratified:
    """An estimand of each arm as if every arm had the mix of strata of the whole sample.

    `joint` holds the arms and their covariance, `plain` the arms as they were. `weights` (batch +
    strata) are the shares of the strata; `merged` (batch + strata) says which strata had too few
    units in some arm and were joined to the largest one, where their weight is.
    """

    joint: Joint
    plain: Estimate
    weights: FloatArray
    merged: BoolArray


def poststratify(moments: Moments, estimand: Estimand) -> Poststratified:
    """Average the strata's estimates with the shares of the strata in the whole sample.

    `moments` has the strata on the last axis but one of its batch and the arms on the last. The
    strata must be known before the start or be untouched by the treatment. A stratum that holds
    fewer than two units of an arm that has units is joined to the largest stratum first.

    Source: Miratrix, Sekhon and Yu (2013), "Adjusting treatment effect estimates by
    post-stratification in randomized experiments", section 3, in a population: the variance
    within strata, sum w_k^2 v_ak, and that of the shares, which are a sample of the population's:
    (1/n) (sum w_k m_ak m_bk - m_a m_b) for arms a and b. So the difference has the variance
    sum w_k^2 (v_Tk + v_Ck) + (1/n) (sum w_k tau_k^2 - tau^2) with the effects tau_k of the strata.

    Estimand: for a mean, the mean of the population; for a ratio, the mean of the strata's
    ratios weighted by their shares of units, which differs from the ratio of the population.
    """
    whole = moments.total(axis=-2)
    kept, merged = _viable(moments, whole)
    strata = estimate(kept, estimand)
    size = kept.units.sum(axis=-1)
    total = np.maximum(size.sum(axis=-1), 1.0)
    weights = size / total[..., None]
    means = np.where((strata.gap == 0) & (weights > 0)[..., None], strata.value, 0.0)
    value = np.einsum("...k,...ka->...a", weights, means)
    parts = weights[..., None] ** 2 * strata.variance
    within = parts.sum(axis=-2)
    apart = means - value[..., None, :]
    between = np.einsum("...k,...ka,...kb->...ab", weights, apart, apart) / total[..., None, None]
    covariance = between + within[..., :, None] * np.eye(value.shape[-1])
    share = quotient(parts, within[..., None, :], 0.0)
    inverse = (share**2 / strata.dof).sum(axis=-2)
    plain = estimate(whole, estimand)
    arms = Estimate(
        value=value,
        variance=np.einsum("...aa->...a", covariance).copy(),
        units=whole.units,
        gap=_of_strata(strata.gap, weights, plain.gap),
        spread_gap=_of_strata(strata.spread_gap, weights, plain.spread_gap),
        freedom=quotient(np.ones_like(inverse), inverse, 1.0),
    )
    return Poststratified(Joint(arms, covariance), plain, weights, merged)


def _viable(moments: Moments, whole: Moments) -> tuple[Moments, BoolArray]:
    """Moments with the strata that are too small for a variance moved into the largest."""
    wanted = (whole.units > 0)[..., None, :]
    small = np.asarray(((moments.units < 2) & wanted).any(axis=-1))
    size = moments.units.sum(axis=-1)
    largest = np.argmax(size, axis=-1)[..., None] == np.arange(size.shape[-1])
    small &= ~largest
    rest = _only(moments, small).total(axis=-2)
    moved = Moments(
        rest.units[..., None, :] * largest[..., None],
        rest.mean[..., None, :, :] * largest[..., None, None],
        rest.co_moment[..., None, :, :, :] * largest[..., None, None, None],
    )
    return merge(_only(moments, ~small), moved), small & (size > 0)


def _only(moments: Moments, chosen: BoolArray) -> Moments:
    """The chosen strata as they are and the others without units."""
    return Moments(
        moments.units * chosen[..., None],
        moments.mean * chosen[..., None, None],
        moments.co_moment * chosen[..., None, None, None],
    )


def _of_strata(gaps: GapArray, weights: FloatArray, plain: GapArray) -> GapArray:
    """The gap of an arm: its own without strata, or the first of a stratum that counts."""
    counted = np.where((weights > 0)[..., None], gaps, 0)
    return np.where(plain > 0, plain, counted.max(axis=-2)).astype(np.uint8)
