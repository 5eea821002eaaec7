"""Compare treated groups of several experiments with one control group."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from services.results.application.find_metric import get_metric
from services.results.application.get_results import Sources
from services.results.application.observing import Observed, observe
from services.results.application.removals import removed_since
from services.results.domain.measure import Measure
from services.results.domain.metric import Metric
from services.results.domain.observation import DataCut, ExperimentPlan, Question
from services.results.domain.reading.control_group import (
    Compared,
    Level,
    comparable,
    compare,
    follow_up_is_equal,
)
from services.results.domain.reading.report import Failure
from services.results.domain.removed import Removed
from shared import errors
from shared.identity.belonging import Stitching

MAX_EXPERIMENTS = 20
"""So many experiments are read for one evaluation, each by a query of its own."""

NO_SUM = Failure(
    "FAILED_PRECONDITION",
    "WRONG_STATE",
    "a quantile does not add up over groups; ask for a metric of another kind",
)
CAPS_DIFFER = Failure(
    "FAILED_PRECONDITION",
    "WRONG_STATE",
    "its cap is a percentile, which each experiment has its own; give it an absolute cap, or none",
)

NO_CLUSTERS = Failure(
    "FAILED_PRECONDITION",
    "NOT_FOR_CLUSTERS",
    "groups are not compared by clusters of units, which the analysis plan of one of their "
    "experiments names",
)


@dataclass(frozen=True, slots=True)
class Group:
    """One variant of an experiment."""

    experiment_id: str
    variant: str


@dataclass(frozen=True, slots=True)
class EvaluateControlGroup:
    """Which groups, by which metrics, and how they are read; as of a watermark, if one is given."""

    project: str
    control: Group
    waves: tuple[Group, ...]
    metric_ids: tuple[str, ...]
    level: Level
    as_of: str = ""
    stitching: Stitching = Stitching.RETROACTIVE

    @property
    def groups(self) -> tuple[Group, ...]:
        """The control, then the waves."""
        return (self.control, *self.waves)


@dataclass(frozen=True, slots=True)
class Placed:
    """A group with its units and the version of its experiment."""

    group: Group
    units: int
    config_version: int


@dataclass(frozen=True, slots=True)
class Evaluated:
    """All groups and metrics. `unequal[m]` says that metric m was watched for unequal times."""

    command: EvaluateControlGroup
    groups: tuple[Placed, ...]
    metrics: tuple[tuple[Metric, Compared | Failure], ...]
    unequal: tuple[bool, ...]
    cut: DataCut
    identity_version: str
    removed: Removed | None


@dataclass(frozen=True, slots=True)
class _Seen:
    plan: ExperimentPlan
    observed: Observed


def evaluate_control_group(command: EvaluateControlGroup, sources: Sources) -> Evaluated:
    """Every metric over all groups, from one cut of the event log. Takes no look.

    NOT_FOUND for an experiment or a metric that the project does not have; INVALID_ARGUMENT for a
    variant that its experiment does not have, a group that is named twice, and experiments of
    different unit types. A metric that fails says why, and the others are there.
    """
    _check_distinct(command)
    with sources.metrics.read() as store:
        metrics = [get_metric(command.project, one, store) for one in command.metric_ids]
    plans = _plans(command, sources)
    measures = tuple(comparable(metric.definition.measure) for metric in metrics)
    clustered = _clustered(command.project, plans, sources)
    obstacles = [NO_CLUSTERS if clustered else _obstacle(one, plans) for one in measures]
    wanted = [index for index, one in enumerate(obstacles) if one is None]
    seen = _observed(command, plans, [measures[index] for index in wanted], sources)
    first = seen[command.control.experiment_id].observed.base
    with np.errstate(all="ignore"):
        found = tuple(
            _one(command, seen, measure, wanted.index(index))
            if index in wanted
            else obstacles[index] or NO_SUM
            for index, measure in enumerate(measures)
        )
    return Evaluated(
        command=command,
        groups=tuple(_placed(group, seen) for group in command.groups),
        metrics=tuple(zip(metrics, found, strict=True)),
        unequal=tuple(len(plans) > 1 and not follow_up_is_equal(one) for one in measures),
        cut=first.cut,
        identity_version=first.links.version,
        removed=removed_since(
            command.project, first.cut.token, command.as_of, sources.plans, sources.moments
        ),
    )


def _check_distinct(command: EvaluateControlGroup) -> None:
    met = {command.control}
    for index, wave in enumerate(command.waves):
        if wave in met:
            allowed = "a group that is neither the control nor another wave"
            raise errors.invalid(f"waves[{index}]", wave.variant, allowed)
        met.add(wave)
    count = len({group.experiment_id for group in command.groups})
    if count > MAX_EXPERIMENTS:
        raise errors.limit_exceeded("experiments in one evaluation", count, MAX_EXPERIMENTS)


def _plans(command: EvaluateControlGroup, sources: Sources) -> Mapping[str, ExperimentPlan]:
    """The plan of each experiment, that of the control first."""
    plans: dict[str, ExperimentPlan] = {}
    for index, group in enumerate(command.groups):
        where = f"waves[{index - 1}]" if index else "control"
        if group.experiment_id not in plans:
            found = sources.experiments.experiment(command.project, group.experiment_id)
            plans[group.experiment_id] = found
        plan, own = plans[group.experiment_id], plans[command.control.experiment_id]
        keys = [arm.variant for arm in plan.arms]
        if group.variant not in keys:
            allowed = f"one of the experiment's variants: {', '.join(keys)}"
            raise errors.invalid(f"{where}.variant", group.variant, allowed)
        if plan.unit_type != own.unit_type:
            allowed = f"an experiment on the unit type of the control, {own.unit_type}"
            raise errors.invalid(f"{where}.experiment", group.experiment_id, allowed)
    return plans


def _clustered(project: str, plans: Mapping[str, ExperimentPlan], sources: Sources) -> bool:
    """Whether any experiment is read by clusters of units."""
    with sources.plans.read() as store:
        stored = [store.current(project, one).for_design(plan) for one, plan in plans.items()]
    return any(one.plan.clustering is not None for one in stored)


def _obstacle(measure: Measure, plans: Mapping[str, ExperimentPlan]) -> Failure | None:
    """Why groups cannot be compared by a metric, known before anything is read."""
    if measure.quantile is not None:
        return NO_SUM
    if len(plans) > 1 and measure.cap is not None and measure.cap.percentile is not None:
        return CAPS_DIFFER
    return None


def _observed(
    command: EvaluateControlGroup,
    plans: Mapping[str, ExperimentPlan],
    measures: Sequence[Measure],
    sources: Sources,
) -> Mapping[str, _Seen]:
    """Every experiment at the cut that the first was read at."""
    seen: dict[str, _Seen] = {}
    as_of = command.as_of
    for experiment_id, plan in plans.items():
        question = Question(
            project=command.project,
            plan=plan,
            measures=tuple(measures),
            stitching=command.stitching,
            as_of=as_of,
        )
        found = observe(question, sources.moments)
        as_of = as_of or found.base.cut.token
        seen[experiment_id] = _Seen(plan, found)
    return seen


def _one(
    command: EvaluateControlGroup, seen: Mapping[str, _Seen], measure: Measure, index: int
) -> Compared | Failure:
    moments = []
    for group in command.groups:
        own = seen[group.experiment_id]
        found = own.observed.of[index]
        if isinstance(found, Failure):
            return replace(found, message=f"experiment {group.experiment_id}: {found.message}")
        observation, place = found
        moments.append(observation.moments(place)[0, _arm(group, own.plan)])
    return compare(measure, moments, command.level)


def _arm(group: Group, plan: ExperimentPlan) -> int:
    return [arm.variant for arm in plan.arms].index(group.variant)


def _placed(group: Group, seen: Mapping[str, _Seen]) -> Placed:
    own = seen[group.experiment_id]
    units = own.observed.base.units[_arm(group, own.plan)]
    return Placed(group, units, own.plan.config_version)
