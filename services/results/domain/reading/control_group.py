"""Treated waves against those who were kept out: one metric over groups of several experiments."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from touchstone_statistics.contrast import Contrast
from touchstone_statistics.estimand import estimate
from touchstone_statistics.family import Method
from touchstone_statistics.holdouts import Evaluation, Reach, evaluate, pooled
from touchstone_statistics.moments import Moments

from services.results.domain.measure import Measure, MetricKind
from services.results.domain.reading.measured import of_record

RATES = frozenset({MetricKind.PROPORTION, MetricKind.FUNNEL, MetricKind.RETENTION})
"""A unit of these is 0 or 1, so that small cells have a test of their own."""


@dataclass(frozen=True, slots=True)
class Level:
    """The error probability, and how several waves are corrected; None: by what they share."""

    alpha: float = 0.05
    method: Method | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Waves:
    """Waves with their comparisons; all arrays have one axis, the waves."""

    evaluation: Evaluation
    contrast: Contrast


@dataclass(frozen=True, slots=True, eq=False)
class Compared:
    """Each wave against the control at the corrected level, and all of them as one."""

    waves: Waves
    whole: Waves


def comparable(measure: Measure) -> Measure:
    """The measure as groups of different age can be compared by it: without covariates, and, where
    it has a window, of the units whose window is over.
    """
    complete = measure.complete_only or measure.window is not None
    return replace(measure, lookback=None, covariates=(), complete_only=complete)


def follow_up_is_equal(measure: Measure) -> bool:
    """Whether every unit that counts was watched for as long as any other."""
    return measure.needs_age or measure.window not in (None, dt.timedelta(0))


def compare(measure: Measure, groups: Sequence[Moments], level: Level) -> Compared:
    """The groups by one metric, the control first; each has the moments of the measure's columns.

    See `touchstone_statistics.holdouts.evaluate` for estimands, sources and assumptions.
    """
    every = _stacked(groups)
    own = of_record(measure)
    arms, rates = estimate(every, own), measure.kind in RATES
    control, alone = arms[:1], Reach(level.alpha, method=Method.NONE, rates=rates)
    whole = pooled(every[1:], own)
    each = Reach(level.alpha, method=level.method, rates=rates)
    return Compared(
        Waves(evaluate(control, arms[1:], each), Contrast(control, arms[1:])),
        Waves(evaluate(control, whole, alone), Contrast(control, whole)),
    )


def _stacked(groups: Sequence[Moments]) -> Moments:
    return Moments(
        np.stack([group.units for group in groups]),
        np.stack([group.mean for group in groups]),
        np.stack([group.co_moment for group in groups]),
    )
