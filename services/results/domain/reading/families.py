"""Families of comparisons by the roles of their metrics, as the plan corrects them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from touchstone_statistics.family import (
    Adjusted,
    Method,
    Role,
    correct_by_role,
    preferential_weights,
    weighted_bonferroni,
)
from touchstone_statistics.family import Correction as FamilyCorrection
from touchstone_statistics.gaps import BoolArray, FloatArray, GapArray

from services.results.domain.analysis_plan import AnalysisPlan, Correction
from services.results.domain.metric import MetricRole

ROLE_OF = {
    MetricRole.PRIMARY: Role.PRIMARY,
    MetricRole.SECONDARY: Role.SECONDARY,
    MetricRole.GUARDRAIL: Role.GUARDRAIL,
}
_METHODS = {
    Correction.NONE: Method.NONE,
    Correction.BONFERRONI: Method.BONFERRONI,
    Correction.HOLM: Method.HOLM,
    Correction.HOCHBERG: Method.HOCHBERG,
    Correction.BENJAMINI_HOCHBERG: Method.BENJAMINI_HOCHBERG,
    Correction.BENJAMINI_YEKUTIELI: Method.BENJAMINI_YEKUTIELI,
}
SMALLEST_LEVEL = 1e-12
"""Intervals are not read at lower levels: the correction would ask for more than 7 sigma."""


@dataclass(frozen=True, slots=True, eq=False)
class Corrected:
    """The comparisons of one metric after correction; one axis of treatments."""

    p_value: FloatArray
    rejected: BoolArray
    level: FloatArray
    correction: Correction


def correct(
    p_values: Sequence[FloatArray],
    gaps: Sequence[GapArray],
    roles: Sequence[MetricRole],
    plan: AnalysisPlan,
) -> list[Corrected]:
    """Correct all comparisons of an experiment; one entry a metric in everything.

    The metrics of a role, times the treatments, are a family. With a preferential correction
    primary metrics have their share of the level and all others, guardrails apart, the rest.
    """
    if not p_values:
        return []
    ends = np.cumsum([p.size for p in p_values])[:-1]
    named = [ROLE_OF[role] for role, p in zip(roles, p_values, strict=True) for _ in range(p.size)]
    p, gap = np.concatenate(list(p_values)), np.concatenate(list(gaps))
    preferential = plan.primary_correction is Correction.PREFERENTIAL_BONFERRONI
    found = _preferential(p, gap, named, plan) if preferential else _by_role(p, gap, named, plan)
    parts = zip(
        np.split(found.p_value, ends),
        np.split(found.rejected, ends),
        np.split(np.maximum(found.alpha, SMALLEST_LEVEL), ends),
        roles,
        strict=True,
    )
    return [Corrected(a, b, c, correction_of(role, plan)) for a, b, c, role in parts]


def correction_of(role: MetricRole, plan: AnalysisPlan) -> Correction:
    """How the family of a role is corrected."""
    if role is MetricRole.GUARDRAIL:
        return Correction.NONE
    if role is MetricRole.PRIMARY:
        return plan.primary_correction
    if plan.primary_correction is Correction.PREFERENTIAL_BONFERRONI:
        return plan.primary_correction
    return plan.secondary_correction


def _by_role(p: FloatArray, gap: GapArray, named: list[Role], plan: AnalysisPlan) -> Adjusted:
    corrections: Mapping[Role, FamilyCorrection] = {
        ROLE_OF[role]: FamilyCorrection(_METHODS[correction_of(role, plan)], plan.alpha)
        for role in MetricRole
    }
    return correct_by_role(p, gap, named, corrections)


def _preferential(p: FloatArray, gap: GapArray, named: list[Role], plan: AnalysisPlan) -> Adjusted:
    guardrail = np.array([role is Role.GUARDRAIL for role in named])
    primary = np.array([role is Role.PRIMARY for role in named])
    in_family = np.where(guardrail, np.uint8(1), gap).astype(np.uint8)
    weights = preferential_weights(primary, in_family, plan.primary_share)
    weighted = weighted_bonferroni(p, gap, np.where(guardrail, 0.0, weights), plan.alpha)
    return Adjusted(
        p_value=np.where(guardrail, p, weighted.p_value),
        rejected=np.where(guardrail, (p < plan.alpha) & (gap == 0), weighted.rejected),
        alpha=np.where(guardrail, plan.alpha, weighted.alpha),
        gap=gap,
    )
