"""Say what the finished experiments of a project gained together."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import special
from touchstone_statistics.contrast import Contrast
from touchstone_statistics.heterogeneity import Effects
from touchstone_statistics.winners import Programme, programme

from services.results.application.find_metric import get_metric
from services.results.application.get_results import Sources
from services.results.application.removals import removed_since
from services.results.domain.measure import Measure
from services.results.domain.metric import Direction
from services.results.domain.observation import ExperimentPlan, Question
from services.results.domain.reading.measured import all_units, measured
from services.results.domain.removed import Removed
from services.results.ports import ExperimentCatalogue
from shared import errors
from shared.identity.belonging import Stitching

MOST_EXPERIMENTS = 30
"""So many are read for one programme, each by a query of its own, the newest first."""


@dataclass(frozen=True, slots=True)
class GetProgramEffect:
    """On which metric; `alpha` is the level at which an improvement was shipped."""

    project: str
    metric_id: str
    alpha: float
    stitching: Stitching = Stitching.RETROACTIVE
    as_of: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class ProgramEffect:
    """The experiments with their effects, on one axis, and what they gained together."""

    plans: tuple[ExperimentPlan, ...]
    effects: Effects
    threshold: float
    total: Programme
    several_treatments: int
    left_out: int
    alpha: float
    watermark: str
    removed: Removed | None


def get_program_effect(
    command: GetProgramEffect, sources: Sources, catalogue: ExperimentCatalogue
) -> ProgramEffect:
    """All finished experiments with one treatment, from one cut of the event log; takes no look.

    NOT_FOUND for a metric that the project does not have, INVALID_ARGUMENT for a quantile. See
    `touchstone_statistics.winners.programme` for the estimand, its source and its assumptions.
    """
    with sources.metrics.read() as store:
        definition = get_metric(command.project, command.metric_id, store).definition
    if definition.measure.quantile is not None:
        raise errors.invalid("metric", command.metric_id, "any metric but a quantile")
    every = catalogue.finished(command.project)
    simple = [one for one in every if len(one.arms) == 2]
    # Asked for one by one, with the units on which a variant was forced.
    plans = tuple(
        sources.experiments.experiment(command.project, one.experiment_id)
        for one in simple[:MOST_EXPERIMENTS]
    )
    measure = replace(definition.measure, lookback=None, covariates=())
    contrasts, watermark = _contrasts(command, plans, measure, sources)
    sign = 1.0 if definition.direction is Direction.INCREASE else -1.0
    threshold = -float(special.ndtri(command.alpha / 2.0))
    with np.errstate(all="ignore"):
        effects = _effects(contrasts, sign)
        total = programme(effects, threshold, command.alpha)
    return ProgramEffect(
        plans=plans,
        effects=effects,
        threshold=threshold,
        total=total,
        several_treatments=len(every) - len(simple),
        left_out=len(simple) - len(plans),
        alpha=command.alpha,
        watermark=watermark,
        removed=removed_since(
            command.project, watermark, command.as_of, sources.plans, sources.moments
        ),
    )


def _contrasts(
    command: GetProgramEffect, plans: Sequence[ExperimentPlan], measure: Measure, sources: Sources
) -> tuple[list[Contrast], str]:
    """The treatment of each experiment against its control, all at one cut; by clusters where the
    analysis plan of an experiment names them.
    """
    found, as_of = [], command.as_of
    for plan in plans:
        with sources.plans.read() as store:
            stored = store.current(command.project, plan.experiment_id).for_design(plan)
        question = Question(
            project=command.project,
            plan=plan,
            measures=(measure,),
            stitching=command.stitching,
            as_of=as_of,
            clustering=stored.plan.clustering,
        )
        seen = sources.moments.observe(question)
        as_of = as_of or seen.cut.token
        found.append(all_units(measured(measure, 0, seen).contrast(plan)))
    return found, as_of


def _effects(contrasts: Sequence[Contrast], sign: float) -> Effects:
    """The lifts of all experiments on one axis, positive where they are good."""
    each = [Effects.of_lifts(contrast) for contrast in contrasts]
    return Effects(
        value=sign * np.concatenate([np.zeros(0), *(one.value for one in each)]),
        variance=np.concatenate([np.zeros(0), *(one.variance for one in each)]),
        gap=np.concatenate([np.zeros(0, dtype=np.uint8), *(one.gap for one in each)]),
    )
