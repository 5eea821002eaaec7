"""One metric: its arms, its comparisons by the rule of record and by others, what is believed."""

from collections.abc import Mapping, Sequence

import numpy as np
from touchstone_statistics.cells import Cells
from touchstone_statistics.contrast import Contrast
from touchstone_statistics.inference import Reading
from touchstone_statistics.margins import not_worse, toward
from touchstone_statistics.proportions import Proportions

from services.results.domain.look import Look, LookKey
from services.results.domain.metric import MetricRole
from services.results.domain.observation import ExperimentPlan, Observation
from services.results.domain.reading.beliefs import ToBelieve, is_share
from services.results.domain.reading.beside import as_method
from services.results.domain.reading.funnel import steps
from services.results.domain.reading.looking import Looked, look_at
from services.results.domain.reading.measured import Measured, all_units, measured, of_record
from services.results.domain.reading.report import Asked, Beside, How, MetricReport
from services.results.domain.reading.single_look import at_any_look, without_looks
from services.results.domain.reading.slices import read_slices
from services.results.domain.reading.switchback import check_windows
from services.results.domain.reading.together import Asking, ToRead

SMALL_CELL = 10.0
"""A proportion is also read by the score test where a cell expects fewer units than this."""


def report_metric(
    asked: Asked,
    seen: tuple[Observation, int],
    plan: ExperimentPlan,
    how: How,
    kept: Mapping[LookKey, Sequence[Look]],
) -> Asking[MetricReport]:
    """Everything about one metric, whose measure has a number in the observation."""
    observation, index = seen
    found = measured(how.measure(asked), index, observation)
    sliced = found.contrast(plan)
    contrast = all_units(sliced)
    variants = [plan.arms[arm].variant for arm in plan.treatments]
    looked = yield from look_at(how.looking, contrast, variants, kept)
    rule = without_looks(how.rule)
    parts = yield from read_slices(rule, how.believing.alpha, sliced, observation.slices)
    beliefs = yield ToBelieve(found, contrast, plan, how.believing, asked.increase)
    beside = yield from _beside(how, found, contrast, looked)
    unadjusted = yield from _without_covariates(how, found, plan)
    uncapped = yield from _without_cap(how, found, plan)
    guarded = yield from _guarded(asked, looked, how.believing.alpha)
    funnel = yield from steps(found, plan, how)
    return MetricReport(
        asked=asked,
        measured=found,
        slices=observation.slices[1:],
        sliced=parts,
        contrast=contrast,
        looked=looked,
        beliefs=beliefs,
        beside=beside,
        unadjusted=unadjusted,
        uncapped=uncapped,
        guarded=guarded,
        steps=funnel,
        incomplete=observation.incomplete[index] if observation.incomplete else (),
        windows=check_windows(found, plan, how.believing.alpha),
    )


def _beside(
    how: How, found: Measured, contrast: Contrast, looked: Looked
) -> Asking[tuple[Beside, ...]]:
    """What other methods say of the data of the cut, and the score test where cells are small."""
    alpha = how.believing.alpha
    readings = []
    for method in how.others:
        if method is not how.rule.method:
            rule, shown, prices = as_method(method, looked, contrast)
            reading = yield ToRead(rule, shown, prices, alpha)
            readings.append(Beside(method, shown, reading))
    if is_share(found) and found.adjusted is None:
        small = Cells.of(contrast).smallest_expected < SMALL_CELL
        if np.any(small):
            score = Proportions(alpha, below=np.inf).read(contrast)
            readings.append(Beside(None, contrast, score))
    return tuple(readings)


def _guarded(asked: Asked, looked: Looked, alpha: float) -> Asking[Reading | None]:
    """The one-sided reading of whether a guardrail is not worse by its margin; treatments share
    the error probability, since shipping any of them wrongly is an error.
    """
    if asked.role is not MetricRole.GUARDRAIL or not asked.margin:
        return None
    against = not_worse(looked.contrast, asked.margin, asked.increase)
    level = alpha / len(looked.looks)
    side = toward(asked.increase)
    reading: Reading = yield ToRead(looked.rule, against, looked.boundaries, level, side)
    return reading


def _without_covariates(how: How, found: Measured, plan: ExperimentPlan) -> Asking[Beside | None]:
    """The data of the cut without covariates; None where none were used."""
    if found.adjusted is None:
        return None
    _, contrast = found.compared(of_record(found.measure), plan)
    return (yield from at_any_look(how, all_units(contrast)))


def _without_cap(how: How, found: Measured, plan: ExperimentPlan) -> Asking[Beside | None]:
    """The data of the cut without the cap; None where there is none."""
    if found.uncapped is None:
        return None
    _, contrast = found.compared(found.uncapped_estimand, plan)
    return (yield from at_any_look(how, all_units(contrast)))
