"""Lifts of several channels that were switched together, split among them.

A holdout from several channels at once measures what they caused together: i = sum of a_c kappa_c
for credits a_c, and nothing of how it splits. What is believed of the kappas beforehand is normal
around 1 with the variance of the prior each and half of it in common: attribution credits channels
with conversions that would have come anyway, and does so to all of them, so a whole that is half of
the credit says that each is about half. Tests of single channels and joint ones are observations
of one normal vector, whose posterior is exact.

Source: Gelman et al. (2013), "Bayesian Data Analysis", equation 14.8 (linear regression with known
variances and a normal prior on the coefficients), one observation after another.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from services.attribution.domain.arrays import Floats
from services.attribution.domain.economics import Undefined
from services.attribution.domain.lift import Estimate, LiftTest, Measured, Target, measure
from services.attribution.domain.pooling import Groups
from shared.errors import invalid

IN_COMMON = 0.5
"""The correlation of two kappas before any test."""


@dataclass(frozen=True, slots=True)
class JointTest:
    """A test that switched several targets at once.

    `test` is of all of them: its attributed credit is the sum of `credits`, each above 0.
    """

    test: LiftTest
    credits: tuple[tuple[Target, float], ...]

    def __post_init__(self) -> None:
        if len({target for target, _ in self.credits}) < 2:
            raise invalid("joint_test.credits", len(self.credits), "at least two targets")
        if any(credit <= 0 for _, credit in self.credits):
            raise invalid("joint_test.credits", self.credits, "credits above 0")

    @property
    def targets(self) -> tuple[Target, ...]:
        """What was switched, in the order of the credits."""
        return tuple(target for target, _ in self.credits)

    @property
    def shares(self) -> dict[Target, float]:
        """The part of each in the credit of all."""
        total = sum(credit for _, credit in self.credits)
        return {target: credit / total for target, credit in self.credits}


@dataclass(frozen=True, slots=True)
class MeasuredJointly:
    """What a joint test says: kappa of all of its targets together."""

    joint: JointTest
    measured: Measured

    @property
    def concentration(self) -> float:
        """The sum of the squared shares: 1 for one target, 1/n for n of the same size."""
        return sum(share**2 for share in self.joint.shares.values())


@dataclass(frozen=True, slots=True)
class Observation:
    """A weighted mean of kappas as a test saw it; the weights sum to 1."""

    weights: tuple[tuple[Target, float], ...]
    seen: Estimate


@dataclass(frozen=True, slots=True)
class Posterior:
    """What is believed of the kappas of some targets together."""

    targets: tuple[Target, ...]
    mean: Floats
    covariance: Floats

    def of(self, target: Target) -> Estimate:
        """One kappa."""
        at = self.targets.index(target)
        return Estimate(float(self.mean[at]), float(np.sqrt(self.covariance[at, at])))

    def total(self, credits_: Sequence[float]) -> Estimate:
        """The sum of credits times kappas, with the credits in the order of the targets."""
        weights = np.array(credits_)
        variance = float(weights @ self.covariance @ weights)
        return Estimate(float(weights @ self.mean), float(np.sqrt(max(variance, 0.0))))


def posterior(
    targets: Sequence[Target], prior_std_dev: float, observations: Sequence[Observation]
) -> Posterior:
    """Return the posterior of the kappas of the targets; no kappa is seen by two observations of
    the same units.
    """
    size = len(targets)
    place = {target: at for at, target in enumerate(targets)}
    mean = np.ones(size)
    covariance = prior_std_dev**2 * (
        (1.0 - IN_COMMON) * np.eye(size) + IN_COMMON * np.ones((size, size))
    )
    for observation in observations:
        row = np.zeros(size)
        for target, weight in observation.weights:
            row[place[target]] = weight
        toward = covariance @ row
        gain = toward / (row @ toward + observation.seen.std_err**2)
        mean = mean + gain * (observation.seen.value - row @ mean)
        covariance = covariance - np.outer(gain, toward)
    return Posterior(tuple(targets), mean, covariance)


def measured_jointly(joint: Sequence[JointTest], alpha: float) -> tuple[MeasuredJointly, ...]:
    """Return what the usable joint tests say, by name."""
    found = []
    for each in sorted(joint, key=lambda one: one.test.experiment):
        measured = measure(each.test, alpha)
        if not isinstance(measured, Undefined):
            found.append(MeasuredJointly(each, measured))
    return tuple(found)


def posterior_of(
    by_target: Groups, prior_std_dev: float, together: Sequence[MeasuredJointly]
) -> Posterior | None:
    """What tests of single targets and joint ones say of the targets that a joint one switched.

    Tests of one target differ by `spread`, and so does what a joint test sees of it. None without a
    joint test.
    """
    switched = {target for each in together for target in each.joint.targets}
    if not switched:
        return None
    targets = sorted(switched, key=Target.sort_key)
    alone = {target: by_target.get(target, ((), None))[1] for target in targets}
    seen = [
        Observation(((target, 1.0),), pooled.kappa)
        for target, pooled in alone.items()
        if pooled is not None
    ]
    for each in together:
        differ = [
            share * pooled.spread
            for target, share in each.joint.shares.items()
            if (pooled := alone[target]) is not None
        ]
        kappa = each.measured.kappa
        error = float(np.linalg.norm([kappa.std_err, *differ]))
        seen.append(Observation(tuple(each.joint.shares.items()), Estimate(kappa.value, error)))
    return posterior(targets, prior_std_dev, seen)
