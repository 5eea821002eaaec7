"""Tests of one target, pooled with the spread between them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from touchstone_statistics.heterogeneity import Effects, Heterogeneity, heterogeneity

from services.attribution.domain.economics import Undefined
from services.attribution.domain.lift import (
    Estimate,
    LiftTest,
    Measured,
    Target,
    critical,
    measure,
)

SPREAD_STD_DEV = 0.25
"""Before any two tests, kappas of a channel at two times are within 0.7 of each other in 95 of 100
cases: half as far apart as those of two channels.
"""
FARTHEST, SPREADS = 8.0, 400
"""To how many of its standard deviations the spread is looked at, and at how many places."""


@dataclass(frozen=True, slots=True)
class Pooled:
    """Kappa of one target over its tests; `spread` is between tests."""

    kappa: Estimate
    spread: float
    p_value: float | None


Groups = dict[Target, tuple[tuple[Measured, ...], Pooled | None]]


def pooled(tests: Sequence[LiftTest], alpha: float) -> tuple[tuple[Measured, ...], Pooled | None]:
    """Measure the tests of one target, and pool what they say; None where none is usable."""
    return _pool(_apart(tests, alpha))


def _apart(tests: Sequence[LiftTest], alpha: float) -> tuple[Measured, ...]:
    """Measure the tests of a target, those that share time as one.

    They may share units too, by an amount that is not known. Their mean by precision then has at
    most the standard error sum of w_i s_i, whatever the correlation; that bound is used.
    """
    groups: list[list[Measured]] = []
    end_us = None
    for test in sorted(tests, key=lambda t: (t.tested.start_us, t.tested.end_us, t.experiment)):
        found = measure(test, alpha)
        if isinstance(found, Undefined):
            continue
        if end_us is None or test.tested.start_us >= end_us:
            groups.append([])
            end_us = test.tested.end_us
        groups[-1].append(found)
        end_us = max(end_us, test.tested.end_us)
    return tuple(group[0] if len(group) == 1 else _together(group, alpha) for group in groups)


def _together(group: Sequence[Measured], alpha: float) -> Measured:
    values = np.array([each.kappa.value for each in group])
    errors = np.array([each.kappa.std_err for each in group])
    weights = errors**-2 / np.sum(errors**-2)
    kappa = Estimate(float(weights @ values), float(weights @ errors))
    reach = critical(alpha) * kappa.std_err
    names = tuple(name for each in group for name in each.experiments)
    return Measured(names, kappa, kappa.value - reach, kappa.value + reach)


def _pool(measured: tuple[Measured, ...]) -> tuple[tuple[Measured, ...], Pooled | None]:
    """Pool independent tests by random effects, with the spread between them integrated over.

    An estimate of the spread from a few tests is often 0, and an interval that trusts it misses far
    too often (tests/calibration/credit.py). So its posterior is used, on a grid: the restricted
    likelihood times a half-normal prior. The moments are those of the mixture.

    Source: Röver (2020), "Bayesian random-effects meta-analysis using the bayesmeta R package",
    sections 2.2 to 2.4; Cochran's Q for the p-value, as DerSimonian and Laird (1986), equation 5.
    """
    if not measured:
        return measured, None
    values = np.array([each.kappa.value for each in measured])
    variances = np.array([each.kappa.std_err for each in measured]) ** 2
    if len(measured) == 1:
        return measured, Pooled(measured[0].kappa, 0.0, None)
    spreads = SPREAD_STD_DEV * np.linspace(0.0, FARTHEST, SPREADS)[:, None]
    weights = 1.0 / (variances + spreads**2)
    totals = weights.sum(axis=1)
    means = weights @ values / totals
    scatter = (weights * (values - means[:, None]) ** 2).sum(axis=1)
    logs = 0.5 * (np.log(weights).sum(axis=1) - np.log(totals) - scatter)
    logs -= 0.5 * (spreads[:, 0] / SPREAD_STD_DEV) ** 2
    mass = np.exp(logs - logs.max())
    mass[[0, -1]] *= 0.5  # the trapezoidal rule
    mass /= mass.sum()
    mean = float(mass @ means)
    variance = float(mass @ (1.0 / totals + (means - mean) ** 2))
    spread = float(np.sqrt(mass @ spreads[:, 0] ** 2))
    p_value = float(_between(values, variances).p_value)
    return measured, Pooled(Estimate(mean, float(np.sqrt(variance))), spread, p_value)


def _between(values: np.ndarray, variances: np.ndarray) -> Heterogeneity:
    return heterogeneity(Effects(values, variances, np.zeros(values.shape, dtype=np.uint8)))
