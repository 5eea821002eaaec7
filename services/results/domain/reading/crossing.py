"""Two experiments at the same time: whose units, and whose effects, depend on the other."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from touchstone_statistics.contrast import Contrast, interaction
from touchstone_statistics.estimand import Estimate, estimate
from touchstone_statistics.family import Correction, Method, correct
from touchstone_statistics.gaps import FloatArray, GapArray
from touchstone_statistics.inference import Fixed, Reading
from touchstone_statistics.interactions import (
    Dependence,
    JointInteraction,
    assignment_dependence,
    joint_interaction,
)
from touchstone_statistics.moments import Moments

from services.results.domain.measure import Measure
from services.results.domain.observation import ExperimentPlan, Observation
from services.results.domain.reading.measured import of_record


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """Each treatment with each treatment of the other experiment, in rows of the other."""

    contrast: Contrast
    reading: Reading


@dataclass(frozen=True, slots=True, eq=False)
class Crossing:
    """One other experiment: `units` has its variants as rows and those of the experiment as
    columns; `joint` and `pairs` have an element for each measure.
    """

    other: ExperimentPlan
    units: FloatArray
    dependence: Dependence
    joint: tuple[JointInteraction, ...]
    pairs: tuple[Pairs, ...]


def cross(
    measures: Sequence[Measure],
    seen: Observation,
    plans: tuple[ExperimentPlan, ExperimentPlan],
    alpha: float,
) -> Crossing:
    """The experiment and another one, from slices by the variant of the other.

    Units are those exposed to both, each counted from its first exposure to the experiment on.
    Sources: Pearson (1900) for the units, Wald (1943) for all interactions at once; a pair is
    the contrast (both - first) - (second - neither) with Welch's degrees of freedom.
    """
    plan, other = plans
    places = _places(seen, other)
    units = np.array(
        [
            seen.slices[place].units if place is not None else (0,) * len(plan.arms)
            for place in places
        ],
        dtype=np.float64,
    )
    cells = [
        estimate(_table(seen.moments(index), places), of_record(measure))
        for index, measure in enumerate(measures)
    ]
    return Crossing(
        other=other,
        units=units,
        dependence=assignment_dependence(units),
        joint=tuple(joint_interaction(one) for one in cells),
        pairs=tuple(_pairs(one, plan, other, alpha) for one in cells),
    )


def adjusted(found: Sequence[Crossing], alpha: float) -> FloatArray:
    """P-values of all interactions, experiments x measures, corrected together by Holm (1979)."""
    p = np.array([[float(one.p_value) for one in crossing.joint] for crossing in found])
    gaps: GapArray = np.array(
        [[int(one.gap) for one in crossing.joint] for crossing in found], dtype=np.uint8
    )
    flat = correct(p.ravel(), gaps.ravel(), Correction(Method.HOLM, alpha))
    return np.asarray(flat.p_value.reshape(p.shape))


def _places(seen: Observation, other: ExperimentPlan) -> list[int | None]:
    """The slice of each variant of the other experiment; None for one that nobody saw."""
    of_variant = {
        one.value: place
        for place, one in enumerate(seen.slices)
        if one.dimension == other.experiment_id and one.value is not None
    }
    return [of_variant.get(arm.variant) for arm in other.arms]


def _table(moments: Moments, places: Sequence[int | None]) -> Moments:
    """Moments of the cells, variants of the other x variants of the experiment."""
    nobody = Moments.empty(moments.units.shape[1:], moments.columns)
    rows = [nobody if place is None else moments[place] for place in places]
    return Moments(
        np.stack([row.units for row in rows]),
        np.stack([row.mean for row in rows]),
        np.stack([row.co_moment for row in rows]),
    )


def _pairs(cells: Estimate, plan: ExperimentPlan, other: ExperimentPlan, alpha: float) -> Pairs:
    own, its = [plan.control_index], [other.control_index]
    treated, its_treated = list(plan.treatments), list(other.treatments)
    contrast = interaction(
        both=cells[its_treated][:, treated],
        first=cells[its][:, treated],
        second=cells[its_treated][:, own],
        neither=cells[its][:, own],
    )
    return Pairs(contrast, Fixed(alpha).read(contrast))
