"""Check whether the results of an experiment can be trusted."""

import datetime as dt
from dataclasses import dataclass

import numpy as np

from services.results.application.get_results import GetResults, Prepared, Sources, prepare
from services.results.domain.reading.measured import measured
from services.results.domain.reading.report import ExperimentReport, Failure, Settled, measure_of
from services.results.domain.reading.trust import (
    Health,
    Traffic,
    excluded,
    metric_health,
    ratios_by_dimension,
    sequential_p_value,
)

SHORTEST = dt.timedelta(hours=1)
"""Traffic a day is not guessed from less than this."""


@dataclass(frozen=True, slots=True)
class Checked:
    """The health of an experiment, and the report that goes with it, which took no look."""

    health: Health
    report: ExperimentReport


def get_health(command: GetResults, sources: Sources) -> Checked:
    """Every check over one cut of the event log; errors as for `get_results`. Takes no look."""
    prepared = prepare(command, sources)
    report, _ = prepared.report(command, sources)
    seen, plan = prepared.inputs.observed.base, prepared.inputs.plan
    traffic = _traffic(prepared, sources)
    analysis = prepared.inputs.choice.plan
    metrics, failed = [], {}
    for (asked, found), place in zip(report.metrics, prepared.inputs.observed.of, strict=True):
        if isinstance(found, Failure) or isinstance(place, Failure):
            reason = found if isinstance(found, Failure) else place
            assert isinstance(reason, Failure)
            failed[asked.metric.metric_id] = reason.message
            continue
        assert isinstance(found, Settled)
        with np.errstate(all="ignore"):
            measure = measure_of(asked, analysis.variance_reduction)
            arms = measured(measure, place[1], place[0])
            metrics.append(metric_health(asked, arms, place, (plan, analysis), traffic))
    committed = seen.cut.commit_time
    health = Health(
        sequential_p_value=sequential_p_value(plan, seen.drawn),
        dimensions=ratios_by_dimension(plan, seen),
        exclusions=excluded(seen),
        metrics=tuple(metrics),
        age=None if committed is None else sources.clock.now() - committed,
        failed=failed,
    )
    return Checked(health, report)


def _traffic(prepared: Prepared, sources: Sources) -> Traffic:
    """Units so far, and a day at the rate since the experiment started."""
    units = sum(prepared.inputs.observed.base.units)
    started = prepared.inputs.plan.start
    if started is None:
        return Traffic(units, 0.0)
    age = max(sources.clock.now() - started, SHORTEST)
    return Traffic(units, units / (age / dt.timedelta(days=1)))
