"""Test every salt in use for uniformity, and every pair of them for independence."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from services.assignment.domain.experiment import AssignmentSource, State
from services.assignment.domain.salt_checks import (
    ChiSquare,
    Salt,
    cells,
    independence,
    uniformity,
)
from services.assignment.ports import ProjectConfig
from shared import errors

MOST_SALTS = 400
"""Salts that are tested at once: 80,000 tests, which take seconds."""
_IN_USE = (State.DRAFT, State.RUNNING, State.PAUSED)

Owner = tuple[str, str]
"""The collection and the id of what has a salt."""


@dataclass(frozen=True, slots=True)
class SaltFinding:
    """A salt that is not uniform, or two that are not independent, with the adjusted p-value."""

    first: Owner
    second: Owner | None
    statistic: float
    p_value: float


@dataclass(frozen=True, slots=True)
class SaltReport:
    """How many salts and tests there were, and those that failed, most significant first."""

    salts: int
    tests: int
    findings: tuple[SaltFinding, ...]
    least_p_value: float
    """The smallest one before it is adjusted; 1 without a test."""


def check_salts(config: ProjectConfig, units: int, alpha: float) -> SaltReport:
    """Test the salts of what is not over; `alpha` is the chance of any false alarm at all.

    P-values are adjusted by Holm (1979), "A simple sequentially rejective multiple test procedure",
    Scandinavian Journal of Statistics 6. RESOURCE_EXHAUSTED above MOST_SALTS salts.
    """
    salts = dict(_salts(config))
    if len(salts) > MOST_SALTS:
        raise errors.limit_exceeded("salts in use", len(salts), MOST_SALTS)
    found = {owner: cells(salt, units) for owner, salt in salts.items()}
    tests = [_finding((owner, None), uniformity(of)) for owner, of in found.items()]
    tests += [
        _finding((one, other), independence(found[one], found[other]))
        for one, other in combinations(found, 2)
    ]
    return SaltReport(
        salts=len(salts),
        tests=len(tests),
        findings=_failed(tests, alpha),
        least_p_value=min((test.p_value for test in tests), default=1.0),
    )


def _finding(owners: tuple[Owner, Owner | None], test: ChiSquare) -> SaltFinding:
    return SaltFinding(*owners, test.statistic, test.p_value)


def _salts(config: ProjectConfig) -> Iterator[tuple[Owner, Salt]]:
    used = set()
    for key, experiment in config.experiments.items():
        design = experiment.design
        if experiment.state in _IN_USE and design.source is AssignmentSource.SLOTS:
            used.add(design.layer)
            yield ("experiments", key), Salt(design.salt, design.hash_version)
    used |= {domain.layer for domain in config.domains.values() if not domain.released}
    for key, layer in config.layers.items():
        if key in used:
            yield ("layers", key), Salt(layer.salt, layer.hash_version)
    for key, holdout in config.holdouts.items():
        if not holdout.ended:
            yield ("holdouts", key), Salt(holdout.salt, holdout.hash_version)


def _failed(tests: list[SaltFinding], alpha: float) -> tuple[SaltFinding, ...]:
    """Those whose p-value, adjusted for the number of tests, is at most alpha."""
    ordered = sorted(tests, key=lambda test: test.p_value)
    factors = np.arange(len(ordered), 0, -1)
    adjusted = np.minimum(1.0, np.maximum.accumulate(factors * [t.p_value for t in ordered]))
    return tuple(
        SaltFinding(test.first, test.second, test.statistic, float(p_value))
        for test, p_value in zip(ordered, adjusted, strict=True)
        if p_value <= alpha
    )
