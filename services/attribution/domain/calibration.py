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
from touchstone_statistics.learned_prior import Learning, PastLift, learn_prior

from services.attribution.domain.economics import Figure, Undefined, cost_per
from services.attribution.domain.joint import (
    JointTest,
    MeasuredJointly,
    Posterior,
    measured_jointly,
    posterior_of,
)
from services.attribution.domain.lift import Estimate, LiftTest, Measured, Target, critical
from services.attribution.domain.pooling import Groups, Pooled, pooled
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

    `pooled` is what its own tests say together, None for a target without a usable one, which has
    the prior alone, or `together`: the kappa of all targets of a test that switched several.
    `spread` is the standard deviation of true kappas between its tests and is part of `std_dev`:
    the reported window is one more draw. `weight` is that of the tests against the prior, 0 to 1.
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
    together: Estimate | None = None

    @property
    def tested(self) -> Estimate | None:
        """What the tests say without a prior, None for a target without any."""
        return self.together if self.pooled is None else self.pooled

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
    """Kappas of all targets in the order of names, and the prior behind them.

    `joint` are the tests of several targets at once, and `believed` what is believed of the kappas
    of all of their targets, None without such a test.
    """

    prior: Prior
    kappas: tuple[Kappa, ...]
    alpha: float
    joint: tuple[MeasuredJointly, ...] = ()
    believed: Posterior | None = None

    def of(self, target: Target) -> Kappa:
        """Return kappa of a target: its own, else about its channel's, else that of the prior.

        A campaign differs from its channel by no less than targets differ from each other, so the
        spread of the prior is added to what is known of the channel.
        """
        known = {kappa.target: kappa for kappa in self.kappas if kappa.tested is not None}
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
        of the tested targets and of 1, and one more draw away from it is the target. A joint test
        is one of the mean of its targets. None without any usable test.
        """
        own = [kappa for kappa in self.kappas if kappa.pooled is not None]
        apart = self.prior.std_dev**2
        seen = [(kappa.pooled, apart) for kappa in own if kappa.pooled]
        seen += [(each.measured.kappa, apart * each.concentration) for each in self.joint]
        if not seen:
            return None
        precisions = [1.0 / (kappa.std_err**2 + differ) for kappa, differ in seen]
        total = sum(precisions) + 1.0 / apart
        parts = [weight * kappa.value for weight, (kappa, _) in zip(precisions, seen, strict=True)]
        mean, std_dev = (sum(parts) + 1.0 / apart) / total, float(np.sqrt(1.0 / total + apart))
        reach = critical(self.alpha) * std_dev
        measured = tuple(each for kappa in own for each in kappa.measured)
        measured += tuple(each.measured for each in self.joint)
        weight = sum(precisions) / total
        return Kappa(
            target, mean, std_dev, mean - reach, mean + reach, None, measured, None, 0.0, weight
        )


def calibrate(
    tests: Sequence[LiftTest],
    targets: Sequence[Target] = (),
    prior: Prior | None = None,
    alpha: float = 0.05,
    joint: Sequence[JointTest] = (),
) -> Calibration:
    """Return kappa of every tested target and of every other in `targets`.

    Tests of one target are pooled by precision with the spread between them; the pooled kappa is
    shrunk toward 1 as a normal mean with a normal prior: (k/s^2 + 1/tau^2) / (1/s^2 + 1/tau^2).
    The lift of a `joint` test is split among its targets (see `joint`). Without a `prior` tau is
    learned from five targets with tests of their own on. The order of tests is of no consequence.
    """
    if not 0 < alpha <= 0.5:
        raise invalid("alpha", alpha, "above 0 and at most 0.5")
    _refuse_twice(tests)
    by_target = {
        target: pooled([test for test in tests if test.target == target], alpha)
        for target in sorted({test.target for test in tests}, key=Target.sort_key)
    }
    prior = learn(by_target) if prior is None else prior
    together = measured_jointly(joint, alpha)
    believed = posterior_of(by_target, prior.std_dev, together)
    switched = () if believed is None else believed.targets
    names = sorted({*by_target, *targets, *switched}, key=Target.sort_key)
    kappas = []
    for target in names:
        measured, own = by_target.get(target, ((), None))
        kappa = _believed(target, measured, prior, alpha, own)
        if believed is not None and target in switched:
            kappa = _with_joint(kappa, together, believed, prior, alpha)
        kappas.append(kappa)
    return Calibration(prior, tuple(kappas), alpha, together, believed)


def _with_joint(
    kappa: Kappa,
    together: Sequence[MeasuredJointly],
    believed: Posterior,
    prior: Prior,
    alpha: float,
) -> Kappa:
    """The kappa of a target that joint tests switched, too."""
    of_target = [each for each in together if kappa.target in each.joint.targets]
    own = believed.of(kappa.target)
    std_dev = float(np.hypot(own.std_err, kappa.spread))
    reach = critical(alpha) * std_dev
    return replace(
        kappa,
        mean=own.value,
        std_dev=std_dev,
        low=own.value - reach,
        high=own.value + reach,
        measured=kappa.measured + tuple(each.measured for each in of_target),
        weight=1.0 - (own.std_err / prior.std_dev) ** 2,
        together=of_target[0].measured.kappa,
    )


def _refuse_twice(tests: Sequence[LiftTest]) -> None:
    keys = sorted((*test.target.sort_key(), test.experiment) for test in tests)
    for one, other in pairwise(keys):
        if one == other:
            raise invalid("lift_tests", one, "one test of a target by each experiment")


def learn(by_target: Groups) -> Prior:
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
