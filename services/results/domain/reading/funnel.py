"""The steps of a funnel: how many units take each, and where they leave."""

import numpy as np
from touchstone_statistics.estimand import Estimand, Mean, Ratio

from services.results.domain.measure import Column, ColumnRole, MetricKind
from services.results.domain.observation import ExperimentPlan
from services.results.domain.reading.measured import Measured, all_units, place
from services.results.domain.reading.report import How, Step
from services.results.domain.reading.single_look import at_any_look
from services.results.domain.reading.together import Asking


def steps(found: Measured, plan: ExperimentPlan, how: How) -> Asking[tuple[Step, ...]]:
    """The steps of a funnel over all units; none for other metrics."""
    measure = found.measure
    if measure.kind is not MetricKind.FUNNEL:
        return ()
    columns = [place(measure, Column(ColumnRole.STEP, i)) for i in range(len(measure.steps))]
    made = []
    for number, source in enumerate(measure.steps):
        reached = Mean(columns[number])
        before: Estimand = reached if number == 0 else Ratio(columns[number], columns[number - 1])
        passed, contrast = found.compared(before, plan)
        comparison = yield from at_any_look(how, all_units(contrast))
        of_all = found.compared(reached, plan)[0]
        made.append(Step(source.event_name, of_all[0], passed[0], comparison))
    return tuple(made)


def taken(step: Step) -> list[int]:
    """How many units of each arm took the step."""
    return [int(count) for count in np.rint(step.reached.value * step.reached.units)]
