"""Discrimination and calibration of predicted conversion, side by side for several models.

Sources: Hanley and McNeil (1982) for the area under the curve, Good (1952) for the logarithmic
loss, Cox (1958) and Steyerberg (2019), chapter 15, for the slope and intercept of calibration.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import scipy  # its statistics load when they are first used: they take most of a second
from scipy import special

from services.attribution.domain.arrays import Flags, Floats, Integers
from services.attribution.domain.learned.ridge import fit_logistic
from services.attribution.domain.markov.orders import area_under_curve
from shared.errors import invalid

LEAST_CHANCE = 1e-9
MAX_BINS = 1_000


@dataclass(frozen=True, slots=True)
class CalibrationBin:
    """Journeys of neighbouring predictions: their mean prediction, and the part that converted."""

    journeys: int
    predicted: float
    observed: float


@dataclass(frozen=True, slots=True)
class Owners:
    """The unit of each journey, and the least number of distinct units that a bin is told of."""

    units: Integers
    least: int


@dataclass(frozen=True, slots=True)
class HeldOutFit:
    """What held-out journeys say of one model.

    `auc` is None where all journeys or none converted. `log_loss` is in nats a journey, and
    `base_log_loss` that of predicting the held-out rate for everyone: a model that is not below it
    has learned nothing. `certain` counts journeys that did what the model called impossible; their
    loss, which has no bound, is taken at a chance of 1e-9. `slope` and `intercept` are those of the
    log odds of conversion over the predicted log odds: 1 and 0 for a calibrated model, a slope
    below 1 for one that is too sure of itself; None where predictions or outcomes are all alike.
    `calibration_error` is the mean distance of prediction and observation over bins, before those
    of few units are joined with their neighbours in `bins`.
    """

    model: str
    journeys: int
    conversions: int
    auc: float | None
    log_loss: float
    base_log_loss: float
    certain: int
    slope: float | None
    intercept: float | None
    calibration_error: float
    bins: tuple[CalibrationBin, ...]


def compare_fits(
    predictions: Mapping[str, Floats], converted: Flags, bins: int = 10
) -> tuple[HeldOutFit, ...]:
    """Judge every model by the same journeys, in the order given."""
    return tuple(judge(model, chances, converted, bins) for model, chances in predictions.items())


def judge(
    model: str, chances: Floats, converted: Flags, bins: int = 10, owners: Owners | None = None
) -> HeldOutFit:
    """Judge the predicted chances (J,) of journeys by whether they `converted` (J,).

    With `owners` no bin is of fewer distinct units than the least.
    """
    if not len(converted) or len(chances) != len(converted):
        raise invalid("held_out.predictions", len(chances), f"{len(converted)}, and at least 1")
    if not 1 <= bins <= MAX_BINS:
        raise invalid("held_out.bins", bins, f"1 to {MAX_BINS}")
    if not ((chances >= 0) & (chances <= 1)).all():
        raise invalid("held_out.predictions", model, "chances between 0 and 1")
    right = np.where(converted, chances, 1.0 - chances)
    rate = float(converted.mean())
    slope, intercept = _recalibrated(chances, converted)
    place = _places(chances, bins)
    every = _bins(place, chances, converted)
    table = every if owners is None else _bins(_joined(place, owners), chances, converted)
    return HeldOutFit(
        model=model,
        journeys=len(converted),
        conversions=int(converted.sum()),
        auc=area_under_curve(chances, converted),
        log_loss=float(-np.log(np.maximum(right, LEAST_CHANCE)).mean()),
        base_log_loss=float(special.entr(rate) + special.entr(1 - rate)),
        certain=int((right == 0).sum()),
        slope=slope,
        intercept=intercept,
        calibration_error=sum(b.journeys * abs(b.predicted - b.observed) for b in every)
        / len(converted),
        bins=table,
    )


def _recalibrated(chances: Floats, converted: Flags) -> tuple[float | None, float | None]:
    odds = special.logit(np.clip(chances, LEAST_CHANCE, 1 - LEAST_CHANCE))
    # Journeys of one prediction count together: models tell few sets of channels apart.
    distinct, place = np.unique(odds, return_inverse=True)
    if len(distinct) < 2 or converted.all() or not converted.any():
        return None, None
    trials = np.bincount(place)
    fit = fit_logistic(
        distinct[:, None], np.bincount(place[converted], minlength=len(trials)), trials, 1e-9
    )
    if not fit.converged:
        return None, None
    return float(fit.coefficients[1]), float(fit.coefficients[0])


def _places(chances: Floats, bins: int) -> Integers:
    """Cut at equal numbers of journeys; those of one prediction stay together."""
    ranks = scipy.stats.rankdata(chances, method="max")
    place: Integers = np.ceil(ranks * bins / len(chances)).astype(np.int64) - 1
    return place


def _joined(place: Integers, owners: Owners) -> Integers:
    """Join neighbouring bins until each is of enough units; -1 where all together are not."""
    joined = np.full(len(place), -1, dtype=np.int64)
    number = 0
    for here in np.unique(place).tolist():
        open_ = (joined == -1) & (place <= here)
        if len(np.unique(owners.units[open_])) >= owners.least:
            joined[open_] = number
            number += 1
    # What is left at the end is of too few units.
    joined[joined == -1] = number - 1
    return joined


def _bins(place: Integers, chances: Floats, converted: Flags) -> tuple[CalibrationBin, ...]:
    told = place >= 0
    place, chances, converted = place[told], chances[told], converted[told]
    journeys = np.bincount(place)
    predicted = np.bincount(place, weights=chances)
    observed = np.bincount(place, weights=converted)
    return tuple(
        CalibrationBin(int(count), float(predicted[row] / count), float(observed[row] / count))
        for row, count in enumerate(journeys.tolist())
        if count
    )
