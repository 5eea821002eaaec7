"""Between the messages of the analysis plan service and what they mean."""

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from touchstone.results.v1 import analysis_plan_pb2 as pb
from touchstone.results.v1 import analysis_plan_service_pb2 as service_pb
from touchstone_statistics.bayes import LiftPrior

from services.results.application.analysis_plans import Patch, PlanToChange, plan_name
from services.results.domain.analysis_plan import (
    AlphaSpending,
    AnalysisMethod,
    Correction,
    MetricPlan,
    StoredPlan,
)
from services.results.domain.clustering import Switchback
from services.results.domain.look import Look
from services.results.domain.observation import MultipleExposures
from services.results.wire.metric_names import ROLES
from shared import errors
from shared.lake.watermark import ConsistencyToken
from shared.resource_names import require_id, resource_name

_UTC = dt.UTC
METHODS = {
    pb.ANALYSIS_METHOD_FIXED: AnalysisMethod.FIXED,
    pb.ANALYSIS_METHOD_GROUP_SEQUENTIAL: AnalysisMethod.GROUP_SEQUENTIAL,
    pb.ANALYSIS_METHOD_ANYTIME: AnalysisMethod.ANYTIME,
    pb.ANALYSIS_METHOD_HYBRID: AnalysisMethod.HYBRID,
}
SPENDINGS = {
    pb.ALPHA_SPENDING_OBRIEN_FLEMING: AlphaSpending.OBRIEN_FLEMING,
    pb.ALPHA_SPENDING_POCOCK: AlphaSpending.POCOCK,
    pb.ALPHA_SPENDING_POWER: AlphaSpending.POWER,
    pb.ALPHA_SPENDING_HWANG_SHIH_DECANI: AlphaSpending.HWANG_SHIH_DECANI,
}
CORRECTIONS = {
    pb.CORRECTION_NONE: Correction.NONE,
    pb.CORRECTION_BONFERRONI: Correction.BONFERRONI,
    pb.CORRECTION_HOLM: Correction.HOLM,
    pb.CORRECTION_HOCHBERG: Correction.HOCHBERG,
    pb.CORRECTION_BENJAMINI_HOCHBERG: Correction.BENJAMINI_HOCHBERG,
    pb.CORRECTION_BENJAMINI_YEKUTIELI: Correction.BENJAMINI_YEKUTIELI,
    pb.CORRECTION_PREFERENTIAL_BONFERRONI: Correction.PREFERENTIAL_BONFERRONI,
}
EXPOSURES = {
    pb.MULTIPLE_EXPOSURES_EXCLUDE: MultipleExposures.EXCLUDE,
    pb.MULTIPLE_EXPOSURES_FIRST: MultipleExposures.FIRST,
}


def _metrics(plan: pb.AnalysisPlan) -> tuple[MetricPlan, ...]:
    project = plan.name.split("/")[1]
    return tuple(
        MetricPlan(
            require_id(one.metric, project, "metrics"),
            ROLES[one.role] if one.role else None,
            one.margin if one.HasField("margin") else None,
        )
        for one in plan.metrics
    )


def _prior(plan: pb.AnalysisPlan) -> LiftPrior | None:
    return LiftPrior(plan.prior.mean, plan.prior.std_dev) if plan.HasField("prior") else None


def _switchback(plan: pb.AnalysisPlan) -> Switchback | None:
    if not plan.HasField("switchback"):
        return None
    sent = plan.switchback
    return Switchback(dt.timedelta(seconds=sent.period_s), dt.timedelta(seconds=sent.burn_in_s))


def _end(plan: pb.AnalysisPlan) -> Any:
    if not plan.HasField("planned_end_time"):
        return None
    try:
        return plan.planned_end_time.ToDatetime(_UTC)
    except (ValueError, OverflowError) as error:
        shown = plan.planned_end_time.seconds
        allowed = "a time from year 1 to 9999"
        raise errors.invalid("analysis_plan.planned_end_time", shown, allowed) from error


# What an update mask may name, with the field of the plan and how it is read.
UPDATABLE: Mapping[str, tuple[str, Callable[[pb.AnalysisPlan], Any]]] = {
    "method": ("method", lambda plan: METHODS.get(plan.method)),
    "alpha": ("alpha", lambda plan: plan.alpha or 0.05),
    "power": ("power", lambda plan: plan.power or 0.8),
    "spending": (
        "spending",
        lambda plan: SPENDINGS.get(plan.spending, AlphaSpending.OBRIEN_FLEMING),
    ),
    "spending_parameter": ("spending_parameter", lambda plan: plan.spending_parameter),
    "planned_units": ("planned_units", lambda plan: plan.planned_units),
    "planned_end_time": ("planned_end", _end),
    "primary_correction": (
        "primary_correction",
        lambda plan: CORRECTIONS.get(plan.primary_correction, Correction.HOLM),
    ),
    "secondary_correction": (
        "secondary_correction",
        lambda plan: CORRECTIONS.get(plan.secondary_correction, Correction.BENJAMINI_HOCHBERG),
    ),
    "primary_share": ("primary_share", lambda plan: plan.primary_share or 0.5),
    "without_variance_reduction": (
        "variance_reduction",
        lambda plan: not plan.without_variance_reduction,
    ),
    "prior": ("prior", _prior),
    "dimensions": ("dimensions", lambda plan: tuple(plan.dimensions)),
    "multiple_exposures": (
        "multiple_exposures",
        lambda plan: EXPOSURES.get(plan.multiple_exposures, MultipleExposures.EXCLUDE),
    ),
    "metrics": ("metrics", _metrics),
    "practical_equivalence": (
        "practical_equivalence",
        lambda plan: plan.practical_equivalence,
    ),
    "cluster_unit_type": ("cluster_unit_type", lambda plan: plan.cluster_unit_type),
    "cluster_field": ("cluster_field", lambda plan: plan.cluster_field),
    "switchback": ("switchback", _switchback),
}


def decode_name(name: str, project: str) -> str:
    """The experiment's id in the name of a plan."""
    experiment, _, last = name.rpartition("/")
    if last != "analysisPlan":
        allowed = "projects/{project}/experiments/{experiment}/analysisPlan"
        raise errors.invalid("name", name, allowed)
    return require_id(experiment, project, "experiments")


def decode_target(plan: pb.AnalysisPlan, project: str) -> PlanToChange:
    """Which plan a change is about."""
    return PlanToChange(project, decode_name(plan.name, project), plan.etag)


def decode_patch(plan: pb.AnalysisPlan, paths: Sequence[str]) -> Patch:
    """The change that an update asks for; INVALID_ARGUMENT for a field that cannot change."""
    allowed = f"one or more of {', '.join(UPDATABLE)}"
    if not paths:
        raise errors.invalid("update_mask", "", allowed)
    for path in paths:
        if path not in UPDATABLE:
            raise errors.invalid("update_mask", path, allowed)
    read = [UPDATABLE[path] for path in paths]
    fields = {field: value(plan) for field, value in read}
    return lambda old: replace(old, **fields)


def encode_plan(stored: StoredPlan, project: str, experiment_id: str) -> pb.AnalysisPlan:
    """A plan as its owner sees it."""
    plan = stored.plan
    message = pb.AnalysisPlan(
        name=plan_name(project, experiment_id),
        method=_number(METHODS, plan.rule)
        if plan.method or plan.planned_units
        else pb.ANALYSIS_METHOD_UNSPECIFIED,
        alpha=plan.alpha,
        power=plan.power,
        spending=_number(SPENDINGS, plan.spending),
        spending_parameter=plan.spending_parameter,
        planned_units=plan.planned_units,
        primary_correction=_number(CORRECTIONS, plan.primary_correction),
        secondary_correction=_number(CORRECTIONS, plan.secondary_correction),
        primary_share=plan.primary_share,
        without_variance_reduction=not plan.variance_reduction,
        dimensions=plan.dimensions,
        multiple_exposures=_number(EXPOSURES, plan.multiple_exposures),
        metrics=[_metric(one, project) for one in plan.metrics],
        practical_equivalence=plan.practical_equivalence,
        cluster_unit_type=plan.cluster_unit_type,
        cluster_field=plan.cluster_field,
        version=stored.version,
        etag=stored.etag,
        fixed=stored.looked_at,
    )
    if plan.prior is not None:
        message.prior.CopyFrom(pb.LiftPrior(mean=plan.prior.mean, std_dev=plan.prior.std_dev))
    if plan.switchback is not None:
        message.switchback.period_s = plan.switchback.period // dt.timedelta(seconds=1)
        message.switchback.burn_in_s = plan.switchback.burn_in // dt.timedelta(seconds=1)
    if plan.planned_end is not None:
        message.planned_end_time.FromDatetime(plan.planned_end)
    if stored.create_time is not None:
        message.create_time.FromDatetime(stored.create_time)
    return message


def encode_look(look: Look) -> service_pb.Look:
    """A look as it was taken."""
    taken = Timestamp()
    taken.FromDatetime(look.create_time)
    return service_pb.Look(
        metric=resource_name(look.key.project, "metrics", look.key.metric_id),
        variant=look.key.variant,
        number=look.number,
        units=round(look.boundary.information),
        information_fraction=look.boundary.fraction,
        spent=look.boundary.spent,
        critical=look.boundary.critical,
        watermark=ConsistencyToken(look.cut.journal_id, look.cut.position).encode(),
        create_time=taken,
        plan_version=look.plan_version,
    )


def _metric(one: MetricPlan, project: str) -> pb.MetricPlan:
    message = pb.MetricPlan(metric=resource_name(project, "metrics", one.metric_id))
    if one.role is not None:
        named = {number: role for number, role in ROLES.items() if number}
        message.role = _number(named, one.role)
    if one.margin is not None:
        message.margin = one.margin
    return message


def _number(table: Mapping[Any, object], value: object) -> Any:
    return next(number for number, known in table.items() if known is value)
