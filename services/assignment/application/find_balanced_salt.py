"""Give a draft the salt under which its variants differ least in what the units did before."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

import numpy as np
from touchstone_assignment.bucketing import HashVersion, bucketer, unit_bytes

from services.assignment.application.find import find_experiment
from services.assignment.domain.balance import Arms, Balanced, Numbers, differences
from services.assignment.domain.experiment import (
    TOTAL_WEIGHT,
    AssignmentSource,
    Experiment,
    State,
    Variant,
)
from services.assignment.ports import Configuration
from shared import errors
from shared.ids import IdGenerator

LEAST_UNITS = 100
"""Fewer units than this tell nothing of balance."""


@dataclass(frozen=True, slots=True)
class History:
    """Which units to look at, from when until when, and which conversions of theirs."""

    project: str
    unit_type: str
    conversions: tuple[str, ...]
    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class Covariates:
    """The units, ascending, and a row of values for each; a column for each name."""

    units: Sequence[str]
    names: tuple[str, ...]
    values: Numbers


class UnitHistory(Protocol):
    """What units did."""

    def read(self, history: History) -> Covariates:
        """For every unit seen in the time the sum of each conversion's values, and 1 or 0."""
        ...


@dataclass(frozen=True, slots=True)
class Search:
    """How far a search is: the best of the salts so far, and how the others did."""

    best: Balanced | None
    largest: tuple[float, ...]


def require_draft(configuration: Configuration, project: str, experiment_id: str) -> Experiment:
    """The experiment; FAILED_PRECONDITION unless it is a draft that this service will assign."""
    found = find_experiment(configuration, project, experiment_id)
    if found.state is not State.DRAFT:
        raise errors.wrong_state(
            f"experiment {experiment_id}",
            found.state,
            "changing its salt",
            "DRAFT: units of a started experiment must keep their variants",
        )
    if found.design.source is not AssignmentSource.SLOTS:
        raise errors.wrong_state(
            f"experiment {experiment_id}",
            found.design.source,
            "changing its salt",
            "SLOTS: another system assigns this one, with salts of its own",
        )
    return found


def searched(draft: Experiment, covariates: Covariates, salts: Sequence[str]) -> Iterator[Search]:
    """Try one salt after another; the last search is the result.

    FAILED_PRECONDITION when there are too few units.
    """
    if len(covariates.units) < LEAST_UNITS:
        raise errors.failed_precondition(
            "TOO_LITTLE_DATA",
            f"{len(covariates.units)} units of type {draft.design.unit_type!r} were seen in that "
            f"time; at least {LEAST_UNITS} are needed: look at a longer time, or send their events "
            "first",
        )
    units = [unit_bytes(unit) for unit in covariates.units]
    variants = draft.design.variants
    best: Balanced | None = None
    largest: list[float] = []
    for salt in salts:
        arms = arms_of(units, variants, draft.design.hash_version, salt)
        found = differences(covariates.values, arms, len(variants))
        largest.append(float(found.max()))
        if best is None or largest[-1] < best.differences.max():
            best = Balanced(salt, found, 0.0)
        best = replace(best, median=float(np.median(largest)))
        yield Search(best, tuple(largest))


def arms_of(
    units: Sequence[bytes], variants: Sequence[Variant], version: HashVersion, salt: str
) -> Arms:
    """Which variant the split gives each unit, by its place."""
    bucket = bucketer(version, salt, TOTAL_WEIGHT)
    buckets = np.fromiter(map(bucket, units), np.int64, len(units))
    ends = np.cumsum([variant.weight for variant in variants])
    arms: Arms = np.searchsorted(ends, buckets, side="right").astype(np.int64)
    return arms


def candidate_salts(ids: IdGenerator, count: int) -> list[str]:
    """As many new salts."""
    return [f"split/{ids.new()}" for _ in range(count)]


def give_salt(
    draft: Experiment, salt: str, configuration: Configuration, now: Callable[[], datetime]
) -> Experiment:
    """The draft with the salt; FAILED_PRECONDITION when it is no draft any more."""
    revision = configuration.next_revision(draft.project, now())
    old = require_draft(configuration, draft.project, draft.experiment_id)
    if old.design.variants != draft.design.variants:
        raise errors.failed_precondition(
            "WRONG_STATE",
            f"the variants of experiment {draft.experiment_id!r} were changed while salts were "
            "tried for them: search again",
        )
    new = replace(
        old,
        design=replace(old.design, salt=salt),
        config_version=revision.config_version,
        update_time=revision.time,
    )
    configuration.experiments.replace(old, new)
    return new
