"""A/A simulation on a project's own units: is the inference as often wrong as it says?"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np
import scipy  # its statistics load when they are first used: they take most of a second
from numpy.typing import ArrayLike
from scipy import special

from touchstone_statistics.adjust import adjust
from touchstone_statistics.contrast import Contrast
from touchstone_statistics.estimand import Estimand, Mean, estimate
from touchstone_statistics.gaps import FloatArray, Gap
from touchstone_statistics.inference import Reading
from touchstone_statistics.moments import Moments

CELLS_AT_ONCE = 4_000_000


class Inference(Protocol):
    """Any way of reading a contrast that gives a p-value."""

    def read(self, contrast: Contrast) -> Reading: ...


@dataclass(frozen=True, slots=True, eq=False)
class AASimulation:
    """What an inference says when units are split at random and nothing was done to them.

    `rejection_rate` is the share of splits with a p-value below `alpha`, with an exact binomial
    interval of 99 %; `calibrated` says that it contains alpha. `uniformity_p` tests that
    p-values are uniform (Kolmogorov-Smirnov; only a fixed horizon promises that). `skipped`
    counts splits that had no p-value.
    """

    p_values: FloatArray
    alpha: float
    rejections: int
    rejection_rate: float
    rate_low: float
    rate_high: float
    uniformity_p: float
    skipped: int

    @property
    def calibrated(self) -> bool:
        return self.rate_low <= self.alpha <= self.rate_high


@dataclass(frozen=True, slots=True)
class Splits:
    """How often and how to split: the share of units in the treatment, and the seed."""

    repetitions: int = 1000
    seed: int = 1
    treated_share: float = 0.5

    def __post_init__(self) -> None:
        if self.repetitions < 1:
            raise ValueError(f"repetitions is {self.repetitions}; it must be at least 1")
        if not 0.0 < self.treated_share < 1.0:
            raise ValueError(
                f"treated_share is {self.treated_share}; it must be above 0 and below 1"
            )


def simulate_aa(
    units: ArrayLike,
    inference: Inference,
    splits: Splits = Splits(),  # frozen
    estimand: Estimand = Mean(0),  # noqa: B008  # frozen
    alpha: float = 0.05,
    covariates: Sequence[Estimand] = (),
) -> AASimulation:
    """Split the same units again and again into two arms and read each pair.

    `units` has one row a unit and the columns that `estimand` and `covariates` need. With
    covariates each split is adjusted by them with slopes of its own. Each unit falls into the
    treatment independently with `treated_share`, as assignment does it. Source: Kohavi, Tang
    and Xu (2020), "Trustworthy online controlled experiments", chapter 19. The splits share
    their units, so this checks the inference on this population and not a new one each time.
    """
    return simulate_aa_looks(units, (inference,), splits, estimand, alpha, covariates)


def simulate_aa_looks(
    units: ArrayLike,
    looks: Sequence[Inference],
    splits: Splits = Splits(),  # frozen
    estimand: Estimand = Mean(0),  # noqa: B008  # frozen
    alpha: float = 0.05,
    covariates: Sequence[Estimand] = (),
) -> AASimulation:
    """As `simulate_aa`, with a look at each equal share of the units, read by its own inference.

    The units come in an order that is drawn once, from the same seed, and that no split depends
    on; number k of K looks sees the first k/K of them. The p-value of a split is the smallest of
    all its looks: what somebody acts on who stops at the first that is small enough. A look
    without a p-value rejects nothing; a split counts as skipped when no look had one. Source:
    Armitage, McPherson and Rowe (1969), "Repeated significance tests on accumulating data".
    """
    rows = np.asarray(units, dtype=np.float64)
    rows = rows[:, None] if rows.ndim == 1 else rows
    if not np.isfinite(rows).all():
        raise ValueError("units hold a value that is not finite; all must be numbers")
    if not looks:
        raise ValueError("looks is empty; it must hold at least one inference")
    smallest = np.full(splits.repetitions, np.nan)
    for part, look, arms in _arms(rows, splits, len(looks)):
        if covariates:
            contrast = adjust(arms, estimand, covariates).joint.contrast(0)
        else:
            contrast = Contrast(estimate(arms[:, :1], estimand), estimate(arms[:, 1:], estimand))
        reading = looks[look].read(contrast)
        found = np.where(reading.gap == Gap.NONE, reading.p_value, np.nan)
        smallest[part] = np.fmin(smallest[part], found.reshape(-1))
    return _summary(smallest[~np.isnan(smallest)], splits.repetitions, alpha)


def _arms(rows: FloatArray, splits: Splits, looks: int) -> Iterator[tuple[slice, int, Moments]]:
    """Control and treatment of some splits at each look, in chunks of bounded memory: which
    splits, which look, and their moments, splits x arms.
    """
    centre = rows.mean(axis=0) if len(rows) else np.zeros(rows.shape[1])
    centred = rows - centre
    columns = rows.shape[1]
    products = (centred[:, :, None] * centred[:, None, :]).reshape(len(rows), columns**2)
    features = np.column_stack([np.ones(len(rows)), centred, products])
    order = np.arange(len(rows))
    if looks > 1:
        order = np.random.default_rng([splits.seed, looks]).permutation(order)
    ends = [len(rows) * look // looks for look in range(looks + 1)]
    arriving = [order[start:end] for start, end in pairwise(ends)]
    generator = np.random.default_rng(splits.seed)
    chunk = max(CELLS_AT_ONCE // max(len(rows), 1), 1)
    for start in range(0, splits.repetitions, chunk):
        many = min(chunk, splits.repetitions - start)
        drawn = generator.random((many, len(rows)), dtype=np.float32) < splits.treated_share
        all_units, treated = np.zeros(features.shape[1]), np.zeros((many, features.shape[1]))
        for look, new in enumerate(arriving):
            own, in_treatment = (features, drawn) if looks == 1 else (features[new], drawn[:, new])
            all_units += own.sum(axis=0)
            treated += in_treatment.astype(np.float64) @ own
            arms = np.stack([all_units - treated, treated], axis=1)
            yield slice(start, start + many), look, _moments(arms, centre)


def _moments(sums: FloatArray, centre: FloatArray) -> Moments:
    """Moments from sums of deviations from the mean of all units, which no digits are lost in."""
    columns = len(centre)
    units, total = sums[..., 0], sums[..., 1 : columns + 1]
    mean = total / np.maximum(units, 1.0)[..., None]
    products = sums[..., columns + 1 :].reshape(*units.shape, columns, columns)
    co_moment = products - units[..., None, None] * mean[..., :, None] * mean[..., None, :]
    return Moments.of(units, np.where(units[..., None] > 0, mean + centre, 0.0), co_moment)


def _summary(p_values: FloatArray, repetitions: int, alpha: float) -> AASimulation:
    count = len(p_values)
    rejections = int((p_values < alpha).sum())
    low, high = binomial_interval(rejections, count)
    return AASimulation(
        p_values=p_values,
        alpha=alpha,
        rejections=rejections,
        rejection_rate=rejections / count if count else 0.0,
        rate_low=low,
        rate_high=high,
        uniformity_p=float(scipy.stats.kstest(p_values, "uniform").pvalue) if count else 1.0,
        skipped=repetitions - count,
    )


def binomial_interval(successes: int, trials: int, alpha: float = 0.01) -> tuple[float, float]:
    """Exact interval of a rate (Clopper and Pearson 1934); 0 to 1 without trials."""
    if not 0 <= successes <= trials:
        raise ValueError(f"successes is {successes} of {trials}; it must be from 0 to that")
    low = special.betaincinv(successes, trials - successes + 1, alpha / 2) if successes else 0.0
    failures = trials - successes
    high = special.betainccinv(successes + 1, failures, alpha / 2) if failures else 1.0
    return (float(low), float(high)) if math.isfinite(low + high) else (0.0, 1.0)
