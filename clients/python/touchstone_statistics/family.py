"""Families of comparisons: adjusted p-values and the level at which their intervals agree.

A family is the last axis of an array of p-values (or of logarithms of e-values); axes in front
of it are families of their own. A comparison with a gap has not been made: it counts in no
family. All decisions are strict, as everywhere in the package: rejected is adjusted p < alpha.
"""

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from touchstone_statistics.gaps import BoolArray, FloatArray, Gap, GapArray, quotient


class Method(enum.Enum):
    """How the p-values of a family are adjusted, and against which error."""

    NONE = "none"
    """Each comparison at its own level; nothing is promised of the family."""
    BONFERRONI = "bonferroni"
    """Any false rejection, under any dependence."""
    HOLM = "holm"
    """Any false rejection, under any dependence; rejects all that Bonferroni does and more."""
    HOCHBERG = "hochberg"
    """Any false rejection, under independence or positive dependence."""
    BENJAMINI_HOCHBERG = "benjamini-hochberg"
    """The expected share of false rejections, under independence or positive dependence."""
    BENJAMINI_YEKUTIELI = "benjamini-yekutieli"
    """The expected share of false rejections, under any dependence."""


class Role(enum.Enum):
    """What a metric is for; each role is corrected as a family of its own."""

    PRIMARY = "primary"
    SECONDARY = "secondary"
    GUARDRAIL = "guardrail"


@dataclass(frozen=True, slots=True)
class Correction:
    """A method and the level of the whole family, 0 < alpha <= 0.5."""

    method: Method
    alpha: float = 0.05

    def __post_init__(self) -> None:
        _check_level(self.alpha)


@dataclass(frozen=True, slots=True, eq=False)
class Adjusted:
    """Families after correction; all arrays share the shape of the p-values.

    An interval read at level `alpha` excludes its null value exactly when `p_value` is below
    the level of the family, for every method. What these intervals cover together differs:

    - Bonferroni, weighted or not: all true values at once, with probability 1 - level.
    - Holm, Hochberg, Benjamini-Hochberg: among the rejected, the expected share of intervals
      that miss is at most the level, for independent comparisons (Benjamini and Yekutieli
      2005, "False discovery rate-adjusted multiple confidence intervals for selected
      parameters"). They do not cover all at once; for that, read at Bonferroni's level.
    - Benjamini-Yekutieli and e-BH: the same share, under any dependence.
    """

    p_value: FloatArray
    rejected: BoolArray
    alpha: FloatArray
    gap: GapArray


def correct(p_value: ArrayLike, gap: GapArray, correction: Correction) -> Adjusted:
    """Adjust the p-values of each family along the last axis.

    Sources: Holm (1979), "A simple sequentially rejective multiple test procedure"; Hochberg
    (1988), "A sharper Bonferroni procedure"; Benjamini and Hochberg (1995), "Controlling the
    false discovery rate", equation 1; Benjamini and Yekutieli (2001), theorem 1.3.
    """
    p, method = np.asarray(p_value, dtype=np.float64), correction.method
    present = np.broadcast_to(gap == Gap.NONE, p.shape)
    p = np.where(present, p, 1.0)
    made = present.sum(axis=-1, keepdims=True).astype(np.float64)
    if method in (Method.NONE, Method.BONFERRONI):
        factor = np.ones_like(made) if method is Method.NONE else np.maximum(made, 1.0)
        adjusted = np.minimum(p * factor, 1.0)
        return _adjusted(adjusted, correction.alpha, correction.alpha / factor, gap)
    order = np.argsort(np.where(present, p, np.inf), axis=-1, kind="stable")
    ordered = np.take_along_axis(p, order, axis=-1)
    rank = np.arange(1.0, p.shape[-1] + 1.0)
    scaled = np.where(rank <= made, ordered * _factor(method, rank, made), np.inf)
    if method is Method.HOLM:
        running = np.maximum.accumulate(scaled, axis=-1)
    else:
        running = np.minimum.accumulate(scaled[..., ::-1], axis=-1)[..., ::-1]
    running = np.minimum(running, 1.0)
    rejections = (running < correction.alpha).sum(axis=-1, keepdims=True).astype(np.float64)
    level = correction.alpha / _factor(method, np.maximum(rejections, 1.0), made)
    return _adjusted(_unsort(running, order), correction.alpha, level, gap)


def _factor(method: Method, rank: FloatArray, made: FloatArray) -> FloatArray:
    """By what the p-value of a rank is multiplied; at the last rejected rank, its inverse is
    the share of the level at which the whole family can be read without changing a decision.
    """
    if method in (Method.HOLM, Method.HOCHBERG):
        return np.maximum(made - rank + 1.0, 1.0)
    factor = np.maximum(made, 1.0) / rank
    if method is Method.BENJAMINI_YEKUTIELI:
        return factor * _harmonic(made)
    return factor


def _harmonic(made: FloatArray) -> FloatArray:
    """1 + 1/2 + ... + 1/m; 1 for an empty family."""
    most = max(int(made.max(initial=1.0)), 1)
    sums = np.cumsum(1.0 / np.arange(1.0, most + 1.0))
    return np.asarray(sums[np.maximum(made, 1.0).astype(int) - 1])


def weighted_bonferroni(
    p_value: ArrayLike, gap: GapArray, weights: FloatArray, alpha: float
) -> Adjusted:
    """Bonferroni's correction with a share of the level for each comparison.

    Source: Rosenthal and Rubin (1983), "Ensemble-adjusted p values". `weights` broadcast to the
    p-values, are not negative and add up to at most 1 along the last axis. Controls any false
    rejection under any dependence. A comparison of weight zero is never rejected.
    """
    _check_level(alpha)
    p = np.asarray(p_value, dtype=np.float64)
    shares = np.broadcast_to(weights, p.shape)
    if (shares < 0).any() or (shares.sum(axis=-1) > 1 + 1e-9).any():
        raise ValueError(
            f"weights add up to {shares.sum(axis=-1).max()}; they must not be negative and add "
            "up to at most 1 in each family"
        )
    adjusted = np.minimum(quotient(p, shares, 1.0), 1.0)
    return _adjusted(adjusted, alpha, alpha * shares, gap)


def preferential_weights(primary: BoolArray, gap: GapArray, share: float) -> FloatArray:
    """Weights that give `share` of the level to primary comparisons and the rest to all others.

    Within each group the comparisons that were made share equally; a group that is empty
    leaves its part to the other. This is the preferential Bonferroni method: with m metrics,
    one of them primary, and k treatments, share/k and (1 - share)/(k (m - 1)).
    """
    if not 0.0 < share < 1.0:
        raise ValueError(f"share is {share}; it must be above 0 and below 1")
    first = primary & (gap == Gap.NONE)
    second = ~primary & (gap == Gap.NONE)
    many, rest = (group.sum(axis=-1, keepdims=True).astype(float) for group in (first, second))
    part = np.where(rest == 0, 1.0, np.where(many == 0, 0.0, share))
    return np.asarray(first * quotient(part, many, 0.0) + second * quotient(1 - part, rest, 0.0))


def correct_by_role(
    p_value: ArrayLike, gap: GapArray, roles: Sequence[Role], corrections: Mapping[Role, Correction]
) -> Adjusted:
    """Correct each role as a family of its own.

    `roles` holds one `Role` for each comparison of the last axis. Guardrails usually have
    `Method.NONE`: shipping needs all of them at once, which costs no correction (Berger 1982,
    "Multiparameter hypothesis testing and acceptance sampling"; see decide.py).
    """
    p, named = np.asarray(p_value, dtype=np.float64), np.array(roles, dtype=object)
    gap = np.broadcast_to(gap, p.shape)
    if named.shape != p.shape[-1:]:
        raise ValueError(f"roles has shape {named.shape}; it must be {p.shape[-1:]}")
    result = Adjusted(np.ones(p.shape), np.zeros(p.shape, np.bool_), np.zeros(p.shape), gap)
    for role in Role:
        at = np.flatnonzero(named == role)
        if at.size == 0:
            continue
        if role not in corrections:
            raise ValueError(f"corrections has no entry for the role {role.value}")
        part = correct(p[..., at], gap[..., at], corrections[role])
        result.p_value[..., at], result.rejected[..., at] = part.p_value, part.rejected
        result.alpha[..., at] = part.alpha
    return result


def correct_evidence(log_e: ArrayLike, gap: GapArray, alpha: float) -> Adjusted:
    """e-BH: the share of false rejections under any dependence and at any stopping time.

    Source: Wang and Ramdas (2022), "False discovery rate control with e-values".
    `log_e` holds natural logarithms of e-values, so evidence beyond 1e308 is not lost. The
    adjusted p-value of the k-th largest e is the least m / (j e_(j)) over j >= k. An interval
    must come from the same e-process, read at the returned alpha (Xu, Wang and Ramdas 2024,
    "Post-selection inference for e-value based confidence intervals").
    """
    inverse = np.exp(np.minimum(-np.asarray(log_e, dtype=np.float64), 0.0))
    return correct(inverse, gap, Correction(Method.BENJAMINI_HOCHBERG, alpha))


def _adjusted(p_value: FloatArray, alpha: float, level: FloatArray, gap: GapArray) -> Adjusted:
    missing = np.broadcast_to(gap, p_value.shape)
    known = missing == Gap.NONE
    return Adjusted(
        p_value=np.where(known, p_value, 1.0),
        rejected=known & (p_value < alpha),
        alpha=np.broadcast_to(level, p_value.shape).copy(),
        gap=missing,
    )


def _unsort(values: FloatArray, order: np.ndarray) -> FloatArray:
    result = np.empty_like(values)
    np.put_along_axis(result, order, values, axis=-1)
    return result


def _check_level(alpha: float) -> None:
    if not 0.0 < alpha <= 0.5:
        raise ValueError(f"alpha is {alpha}; it must be above 0 and at most 0.5")
