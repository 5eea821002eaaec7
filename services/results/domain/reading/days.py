"""One metric at the end of each day."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from touchstone_statistics.contrast import Contrast
from touchstone_statistics.gaps import FloatArray
from touchstone_statistics.inference import Reading
from touchstone_statistics.moments import Moments

from services.results.domain.exact import Sums
from services.results.domain.measure import Measure
from services.results.domain.observation import ExperimentPlan
from services.results.domain.reading.measured import Measured, of_moments
from services.results.domain.reading.rules import Rule


@dataclass(frozen=True, slots=True, eq=False)
class Course:
    """Axes days, arms in `found` and `added`; days, treatments in contrast and reading.

    `added` is what each day added to the sum over units. The readings are by `rule`.
    """

    rule: Rule
    found: Measured
    added: FloatArray
    contrast: Contrast
    reading: Reading


def course(
    rule: Rule, alpha: float, measure: Measure, days: Sequence[Sums], plan: ExperimentPlan
) -> Course:
    """Everything up to the end of each day, by a rule that takes no looks."""
    parts = [one.moments for one in days]
    moments = Moments(
        np.concatenate([part.units for part in parts]),
        np.concatenate([part.mean for part in parts]),
        np.concatenate([part.co_moment for part in parts]),
    )
    totals = np.concatenate([one.totals[..., 0] for one in days])
    found = of_moments(measure, moments, totals)
    contrast = found.contrast(plan)
    return Course(
        rule=rule,
        found=found,
        added=np.diff(totals, axis=0, prepend=np.zeros((1, totals.shape[1]))),
        contrast=contrast,
        reading=rule.read(contrast, (), alpha),
    )
