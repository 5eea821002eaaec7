"""Compute the weights that a bandit's evidence asks for, and hand them over."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from touchstone_statistics.bandit import Bandit

from services.results.application.find_metric import get_metric
from services.results.application.get_results import Sources, prior_of
from services.results.application.removals import removed_since
from services.results.domain.metric import Direction
from services.results.domain.observation import (
    DataCut,
    ExperimentPlan,
    MultipleExposures,
    Question,
)
from services.results.domain.reading.bandits import PERIOD, Learned, Wish, in_play, learn
from services.results.domain.reading.beliefs import Prior
from services.results.domain.removed import Removed
from services.results.ports import BanditExperiment, Bandits, Handover
from shared import errors
from shared.identity.belonging import Stitching


@dataclass(frozen=True, slots=True)
class ComputeWeights:
    """Of which experiment, by which metric and rule; as of the watermark `as_of`, if any."""

    project: str
    experiment_id: str
    metric_id: str
    rule: Bandit
    as_of: str = ""
    stitching: Stitching = Stitching.RETROACTIVE


@dataclass(frozen=True, slots=True)
class Computed:
    """What was learned of an experiment, from which cut, and what was believed before.

    `removed` is what the cut has lost since something was first read at it.
    """

    plan: ExperimentPlan
    experiment: BanditExperiment
    learned: Learned
    cut: DataCut
    prior: Prior
    removed: Removed | None = None

    @property
    def weights(self) -> Mapping[str, int]:
        """The weight of every variant; none for one that is dropped."""
        arms = self.plan.arms
        asked = zip(self.learned.arms, self.learned.weights, strict=True)
        of_place = {place: int(weight) for place, weight in asked}
        return {arm.variant: of_place.get(place, 0) for place, arm in enumerate(arms)}


def compute_weights(command: ComputeWeights, sources: Sources, bandits: Bandits) -> Computed:
    """The weights, from one cut of the event log. Changes nothing.

    NOT_FOUND for an experiment or a metric that the project does not have; FAILED_PRECONDITION for
    an experiment whose weights are fixed; INVALID_ARGUMENT for a quantile, and for a floor that
    is more than the arms can have.
    """
    with sources.metrics.read() as store:
        definition = get_metric(command.project, command.metric_id, store).definition
    if definition.measure.quantile is not None:
        raise errors.invalid("rule.metric", command.metric_id, "any metric but a quantile")
    # The etag is that of before: what changes meanwhile is not overwritten.
    found = bandits.bandit(command.project, command.experiment_id)
    plan = sources.experiments.experiment(command.project, command.experiment_id)
    _check_arms(command, plan, found)
    with sources.plans.read() as plans:
        stored = plans.current(command.project, command.experiment_id)
    prior = prior_of(stored, sources)
    measure = replace(definition.measure, lookback=None, covariates=())
    question = Question(
        project=command.project,
        plan=plan,
        measures=(measure,),
        stitching=command.stitching,
        dimensions=(PERIOD,),
        as_of=command.as_of,
        # A bandit's unit may change its variant; it counts for what it saw first.
        multiple_exposures=MultipleExposures.FIRST,
    )
    seen = sources.moments.observe(question)
    wish = Wish(command.rule, prior.lift, definition.direction is Direction.INCREASE)
    with np.errstate(all="ignore"):
        learned = learn(measure, seen, plan, found.dropped, wish)
    removed = removed_since(
        command.project, seen.cut.token, command.as_of, sources.plans, sources.moments
    )
    return Computed(plan, found, learned, seen.cut, prior, removed)


def apply_weights(
    command: ComputeWeights, handover: Handover, sources: Sources, bandits: Bandits
) -> tuple[Computed, bool]:
    """Compute the weights and hand them over, unless they are held; whether they were.

    Errors as for `compute_weights`, and those of the assignment service: ABORTED when the
    experiment is not what it was, FAILED_PRECONDITION when it is over.
    """
    computed = compute_weights(command, sources, bandits)
    if computed.learned.held is not None:
        return computed, False
    etag = handover.etag or computed.experiment.etag
    bandits.hand_over(
        command.project, command.experiment_id, computed.weights, replace(handover, etag=etag)
    )
    return computed, True


def _check_arms(command: ComputeWeights, plan: ExperimentPlan, found: BanditExperiment) -> None:
    arms, floor = len(in_play(plan, found.dropped)), command.rule.floor
    if arms < 2:
        raise errors.failed_precondition(
            "WRONG_STATE",
            f"every variant of experiment {errors.shown(command.experiment_id)} but the control is "
            "dropped; there is nothing to choose from",
        )
    if arms * floor > 1.0:
        raise errors.invalid("rule.floor", floor, f"0 to {1 / arms:.6g} with {arms} arms")
