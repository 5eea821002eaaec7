"""Credit corrected by experiments: incremental = kappa * attributed.

An experiment or a holdout that switched a channel off for some units measures how many conversions
the channel caused among those it was shown to. Attribution of the same units, window and channel
says how many it was credited with. Their ratio is kappa (no product read here has it; lift is
used in the same spirit as an objective by Robyn and as a prior by Meridian). Randomisation makes
the numerator causal; that kappa of the tested cell holds for the reported one is an assumption,
which `conflicts` checks as far as it can be.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from touchstone_statistics.bayes import LiftPrior
from touchstone_statistics.heterogeneity import Effects, Heterogeneity, heterogeneity
from touchstone_statistics.learned_prior import Learning, PastLift, learn_prior

from services.attribution.domain.economics import Figure, Undefined, cost_per
from services.attribution.domain.lift import (
    Estimate,
    LiftTest,
    Measured,
    Target,
    critical,
    measure,
)
from shared.errors import invalid

PRIOR_STD_DEV = 0.5
"""Before any test kappa lies between 0 and 2 with a probability of 95 %."""

MIN_TARGETS_TO_LEARN = 5


@dataclass(frozen=True, slots=True)
class Prior:
    """Belief about kappa of any target before a test of its own: normal around 1.

    `tested` is how many targets it was learned from, 0 for the default. `moment_std_dev` is the
    spread by DerSimonian and Laird (1986), beside the one in use; far apart, a normal fits badly.
    """

    std_dev: float = PRIOR_STD_DEV
    tested: int = 0
    moment_std_dev: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.std_dev < np.inf:
            raise invalid("prior.std_dev", self.std_dev, "a finite number above 0")


@dataclass(frozen=True, slots=True)
class Kappa:
    """What is believed of kappa of a target: mean, standard deviation, central interval.

    `pooled` is what its own tests say together, None for a target without a usable test, which
    has the prior alone. `spread` is the standard deviation of true kappas between its tests and is
    part of `std_dev`: the reported window is one more draw. `weight` is that of the tests against
    the prior, 0 to 1.
    """

    target: Target
    mean: float
    std_dev: float
    low: float
    high: float
    pooled: Estimate | None
    measured: tuple[Measured, ...]
    heterogeneity_p: float | None
    spread: float
    weight: float

    def incremental(self, attributed: Estimate) -> Estimate:
        """Return kappa times attributed, with the variance of a product of independent estimates.

        Source: Goodman (1960), "On the exact variance of products", equation 2.
        """
        a, k = attributed, self
        variance = (k.std_dev * a.value) ** 2 + (k.mean * a.std_err) ** 2
        variance += (k.std_dev * a.std_err) ** 2
        return Estimate(k.mean * a.value, float(np.sqrt(variance)))


@dataclass(frozen=True, slots=True)
class Calibration:
    """Kappas of all targets in the order of names, and the prior behind them."""

    prior: Prior
    kappas: tuple[Kappa, ...]
    alpha: float

    def of(self, target: Target) -> Kappa:
        """Return kappa of a target: its own, else about its channel's, else that of the prior.

        A campaign differs from its channel by no less than targets differ from each other, so the
        spread of the prior is added to what is known of the channel.
        """
        known = {kappa.target: kappa for kappa in self.kappas if kappa.pooled is not None}
        own, whole = known.get(target), known.get(Target(target.channel))
        if own is not None:
            return own
        if whole is None:
            return _believed(target, (), self.prior, self.alpha)
        std_dev = float(np.hypot(whole.std_dev, self.prior.std_dev))
        reach = critical(self.alpha) * std_dev
        low, high = whole.mean - reach, whole.mean + reach
        return replace(whole, target=target, std_dev=std_dev, low=low, high=high)

    def expected(self, target: Target) -> Kappa | None:
        """Return what the tests of other targets lead to expect of one without any.

        Kappas of targets are taken as draws around a common mean, which is 1 give or take the
        prior; they differ from each other by as much. The mean then is the precision-weighted one
        of the tested targets and of 1, and one more draw away from it is the target. None without
        any usable test.
        """
        own = [kappa for kappa in self.kappas if kappa.pooled is not None]
        if not own:
            return None
        apart = self.prior.std_dev**2
        pooled = [(kappa.pooled.value, kappa.pooled.std_err) for kappa in own if kappa.pooled]
        precisions = [1.0 / (std_err**2 + apart) for _, std_err in pooled]
        total = sum(precisions) + 1.0 / apart
        parts = [weight * value for weight, (value, _) in zip(precisions, pooled, strict=True)]
        mean, std_dev = (sum(parts) + 1.0 / apart) / total, float(np.sqrt(1.0 / total + apart))
        reach = critical(self.alpha) * std_dev
        measured = tuple(each for kappa in own for each in kappa.measured)
        weight = sum(precisions) / total
        return Kappa(
            target, mean, std_dev, mean - reach, mean + reach, None, measured, None, 0.0, weight
        )


def calibrate(
    tests: Sequence[LiftTest],
    targets: Sequence[Target] = (),
    prior: Prior | None = None,
    alpha: float = 0.05,
) -> Calibration:
    """Return kappa of every tested target and of every other in `targets`.

    Tests of one target are pooled by precision with the spread between them; the pooled kappa is
    shrunk toward 1 as a normal mean with a normal prior: (k/s^2 + 1/tau^2) / (1/s^2 + 1/tau^2).
    Without a `prior` tau is learned from five tested targets on. The order of tests is of no
    consequence.
    """
    if not 0 < alpha <= 0.5:
        raise invalid("alpha", alpha, "above 0 and at most 0.5")
    _refuse_twice(tests)
    by_target = {
        target: _pool(_apart([t for t in tests if t.target == target], alpha))
        for target in sorted({test.target for test in tests}, key=Target.sort_key)
    }
    prior = learn(by_target) if prior is None else prior
    names = sorted({*by_target, *targets}, key=Target.sort_key)
    kappas = []
    for target in names:
        measured, pooled = by_target.get(target, ((), None))
        kappas.append(_believed(target, measured, prior, alpha, pooled))
    return Calibration(prior, tuple(kappas), alpha)


def _refuse_twice(tests: Sequence[LiftTest]) -> None:
    keys = sorted((*test.target.sort_key(), test.experiment) for test in tests)
    for one, other in pairwise(keys):
        if one == other:
            raise invalid("lift_tests", one, "one test of a target by each experiment")


@dataclass(frozen=True, slots=True)
class Pooled:
    """Kappa of one target over its tests; `spread` is between tests."""

    kappa: Estimate
    spread: float
    p_value: float | None


_Groups = dict[Target, tuple[tuple[Measured, ...], Pooled | None]]


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
    """Pool independent tests; random effects (DerSimonian and Laird 1986, equations 8 and 9)."""
    if not measured:
        return measured, None
    values = np.array([each.kappa.value for each in measured])
    variances = np.array([each.kappa.std_err for each in measured]) ** 2
    if len(measured) == 1:
        return measured, Pooled(measured[0].kappa, 0.0, None)
    between = _between(values, variances)
    spread = float(between.spread)
    weights = 1.0 / (variances + spread**2)
    mean, std_err = weights @ values / weights.sum(), 1.0 / np.sqrt(weights.sum())
    return measured, Pooled(Estimate(float(mean), float(std_err)), spread, float(between.p_value))


def _between(values: np.ndarray, variances: np.ndarray) -> Heterogeneity:
    return heterogeneity(Effects(values, variances, np.zeros(values.shape, dtype=np.uint8)))


def learn(by_target: _Groups) -> Prior:
    """Return the prior that the tested targets show, or the default for fewer than five.

    The spread of true kappas around 1 is the most likely one, kept away from zero where the
    likelihood is highest there, so that agreement of a few tests never means certainty.
    """
    known = [(target, pooled) for target, (_, pooled) in by_target.items() if pooled is not None]
    past = [
        PastLift(
            f"{target.channel}/{target.campaign}",
            pooled.kappa.value - 1.0,
            float(np.hypot(pooled.kappa.std_err, pooled.spread)),
        )
        for target, pooled in known
    ]
    default = LiftPrior(0.0, PRIOR_STD_DEV)
    learned = learn_prior(past, default, least=MIN_TARGETS_TO_LEARN)
    if learned.learning is Learning.FALLBACK:
        return Prior()
    return Prior(learned.prior.std_dev, len(known), learned.moment_std_dev)


def _believed(
    target: Target,
    measured: tuple[Measured, ...],
    prior: Prior,
    alpha: float,
    pooled: Pooled | None = None,
) -> Kappa:
    weight, spread, own = 0.0, 0.0, None
    variance, mean = prior.std_dev**2, 1.0
    if pooled is not None:
        own, spread = pooled.kappa, pooled.spread
        weight = variance / (variance + own.std_err**2)
        mean = 1.0 + weight * (own.value - 1.0)
        variance = weight * own.std_err**2 + spread**2
    std_dev = float(np.sqrt(variance))
    reach = critical(alpha) * std_dev
    p_value = None if pooled is None else pooled.p_value
    return Kappa(
        target, mean, std_dev, mean - reach, mean + reach, own, measured, p_value, spread, weight
    )


@dataclass(frozen=True, slots=True)
class Incremental:
    """What a target is credited with, what it caused, and what that cost.

    `cost_low` and `cost_high` bound the cost per incremental conversion; NOTHING_INCREMENTAL is an
    end without bound, where the interval of incremental conversions holds zero.
    """

    target: Target
    attributed: Estimate
    incremental: Estimate
    low: float
    high: float
    cost: Figure
    cost_per_incremental: Figure
    cost_low: Figure
    cost_high: Figure


def incremental(
    target: Target, attributed: Estimate, cost: Figure, calibration: Calibration
) -> Incremental:
    """Return the incremental conversions (or value) of a target beside the attributed ones."""
    return incremental_by(calibration.of(target), attributed, cost, calibration.alpha)


def incremental_by(kappa: Kappa, attributed: Estimate, cost: Figure, alpha: float) -> Incremental:
    """Return what a target caused by a kappa of its own choice; `alpha` is that of the interval."""
    caused = kappa.incremental(attributed)
    reach = critical(alpha) * caused.std_err
    low, high = caused.value - reach, caused.value + reach
    nothing = Undefined.NOTHING_INCREMENTAL
    return Incremental(
        target=kappa.target,
        attributed=attributed,
        incremental=caused,
        low=low,
        high=high,
        cost=cost,
        cost_per_incremental=cost_per(cost, caused.value, nothing),
        cost_low=cost_per(cost, high, nothing),
        cost_high=cost_per(cost, low, nothing),
    )
