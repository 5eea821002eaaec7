"""Imports the file of a finished experiment: the experiment, its metrics, its events."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass

from touchstone.assignment.v1 import experiment_pb2

from services.cli.importing.cells import microseconds, stamp
from services.cli.importing.definitions import (
    WantedExperiment,
    complete_adopted,
    find_experiment,
    is_metric_there,
    make_experiment,
    make_metric,
    reduction_by,
    require_same,
    start_us,
    stop_experiment,
)
from services.cli.importing.experiment_rows import (
    ExperimentMapping,
    ExperimentRows,
    MetricColumn,
    is_row_number,
)
from services.cli.importing.names import (
    distinct_keys,
    event_name_in,
    metric_id,
    require_currency,
    require_experiment_id,
    require_unit_type,
)
from services.cli.importing.report import Report
from services.cli.importing.runs import Run, require_new, require_service, run
from services.cli.importing.survey import Columns, Survey, survey
from services.cli.options import parse_time
from services.cli.session import Session
from services.cli.splits import parse_weight, relative_weights
from services.cli.terminal import say
from shared.clock import Clock
from shared.errors import failed_precondition, invalid

_KINDS = {"proportion": True, "mean": False}
# As far as the events service lets a clock be ahead.
_LEAD = dt.timedelta(hours=24)
# As many as a metric takes.
_MOST_COVARIATES = 10


@dataclass(frozen=True, slots=True)
class ExperimentFile:
    """What the user said of the file, as it was said."""

    experiment: str
    unit: str
    unit_type: str
    variant: str
    control: str
    metrics: tuple[str, ...]
    covariates: tuple[str, ...]
    attributes: tuple[str, ...]
    weights: tuple[str, ...]
    time: str | None
    start: str
    stop: str
    currency: str
    keep_running: bool
    dataset: str
    source: str


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is there and what is still to be made; nothing is changed before all of it fits."""

    experiment: WantedExperiment
    there: experiment_pb2.Experiment | None
    mapping: ExperimentMapping
    missing: tuple[MetricColumn, ...]
    found: Survey


def import_experiment(
    session: Session, wanted: ExperimentFile, run_of: Run, clock: Clock
) -> Report:
    """Makes the experiment and its metrics when they are not there, replays every row, and stops
    the experiment. Doing it again changes nothing.
    """
    plan = _plan(session, wanted, run_of, clock)
    rows = ExperimentRows(plan.mapping, run_of.source, plan.found.repeated)
    require_new(session, run_of, plan.mapping)
    require_service(session)
    _make(session, wanted, plan)
    report = run(session, run_of, rows, plan.mapping)
    if not wanted.keep_running:
        stop_experiment(session, wanted.experiment)
    return report


def _plan(session: Session, wanted: ExperimentFile, run_of: Run, clock: Clock) -> _Plan:
    require_experiment_id(wanted.experiment)
    require_unit_type(wanted.unit_type)
    require_currency(wanted.currency)
    kinds = [_metric_kind(text) for text in wanted.metrics]
    unit = None if is_row_number(wanted.unit, run_of.source) else wanted.unit
    found = survey(
        run_of.source,
        Columns(wanted.variant, [name for name, _ in kinds], wanted.time, unit),
    )
    keys = distinct_keys(found.variants)
    there = find_experiment(session, wanted.experiment)
    start = _start_us(wanted, found, None if there is None else start_us(there), clock)
    mapping = _mapping(wanted, found, keys, start)
    experiment = _experiment(wanted, mapping, found, there)
    if there is not None:
        require_same(experiment, there)
    missing = tuple(m for m in mapping.metrics if not is_metric_there(session, m))
    return _Plan(experiment, there, mapping, missing, found)


def _make(session: Session, wanted: ExperimentFile, plan: _Plan) -> None:
    reduction = reduction_by(plan.mapping)
    for metric in plan.missing:
        make_metric(session, metric, reduction, primary=metric == plan.mapping.metrics[0])
        say(f"made metric {metric.metric_id}: {_described(metric, plan.found)}")
    if plan.there is not None:
        complete_adopted(session, plan.experiment, plan.there)
        return
    make_experiment(session, plan.experiment)
    split = " ".join(f"{key}={weight}" for key, weight in plan.experiment.weights.items())
    say(f"made experiment {wanted.experiment}: {split}")


def _described(metric: MetricColumn, found: Survey) -> str:
    if metric.proportion:
        return f"the proportion of column {metric.column}"
    line, number = found.means.get(metric.column, (0, ""))
    why = f" (line {line} holds {number})" if line else ""
    return f"the mean of column {metric.column}{why}"


def _metric_kind(text: str) -> tuple[str, bool | None]:
    column, separator, kind = text.rpartition(":")
    if separator and kind in _KINDS:
        return column, _KINDS[kind]
    return text, None


def _metric_column(wanted: ExperimentFile, column: str, proportion: bool) -> MetricColumn:
    return MetricColumn(
        column,
        metric_id(wanted.experiment, column),
        event_name_in(wanted.experiment, column),
        proportion,
        "" if proportion else wanted.currency,
    )


def _mapping(
    wanted: ExperimentFile, found: Survey, keys: Mapping[str, str], start: int
) -> ExperimentMapping:
    metrics = tuple(
        _metric_column(wanted, column, column not in found.means if kind is None else kind)
        for column, kind in map(_metric_kind, wanted.metrics)
    )
    if len(wanted.covariates) > _MOST_COVARIATES:
        raise invalid(
            "--covariate",
            wanted.covariates[_MOST_COVARIATES],
            f"at most {_MOST_COVARIATES} of them",
        )
    covariates = tuple(
        (column, event_name_in(wanted.experiment, column)) for column in wanted.covariates
    )
    names = [metric.event_name for metric in metrics] + [name for _, name in covariates]
    if doubles := sorted({name for name in names if names.count(name) > 1}):
        raise invalid(
            "--metric", doubles[0], "columns of different names, each named once by one option"
        )
    return ExperimentMapping(
        dataset=wanted.dataset,
        experiment=wanted.experiment,
        unit=wanted.unit,
        unit_type=wanted.unit_type,
        variant=wanted.variant,
        variants=keys,
        metrics=metrics,
        covariates=covariates,
        attributes=wanted.attributes,
        time=wanted.time,
        start_us=start,
        source=wanted.source,
    )


def _start_us(wanted: ExperimentFile, found: Survey, known: int | None, clock: Clock) -> int:
    """When the experiment began. With a column of times: when the user says, else at the earliest.
    Otherwise: when the user says, else when the experiment that is there did, else at the
    beginning of this day.
    """
    given = _time_us(wanted.start, "--start", clock)
    if wanted.time is not None:
        if given is None and found.earliest_us is None:
            raise invalid("--time", wanted.time, "a column of times; this one holds none")
        earliest = given if given is not None else found.earliest_us or 0
        return _require_past(earliest, "--time", clock)
    if known is not None and given not in (None, known):
        raise failed_precondition(
            "WRONG_STATE",
            f"experiment {wanted.experiment} began at {_shown(known)}, not at {wanted.start}: "
            "leave --start out, or choose another id with --experiment",
        )
    if known is not None or given is not None:
        return known if known is not None else given or 0
    today = clock.now().replace(hour=0, minute=0, second=0, microsecond=0)
    say(f"every exposure is dated {today:%Y-%m-%d}; --start names the true date")
    return microseconds(today)


def _stop_us(wanted: ExperimentFile, found: Survey, start: int) -> int | None:
    """When the experiment ended: when the user says, else at the latest time of the file; None
    when neither is known or it goes on.
    """
    if wanted.keep_running:
        return None
    if not wanted.stop:
        return found.latest_us
    given = microseconds(parse_time(wanted.stop, "--stop").ToDatetime(dt.UTC))
    if given < start:
        raise invalid("--stop", wanted.stop, f"from the start on, {_shown(start)}")
    return given


def _time_us(text: str, option: str, clock: Clock) -> int | None:
    if not text:
        return None
    given = microseconds(parse_time(text, option).ToDatetime(dt.UTC))
    return _require_past(given, option, clock)


def _require_past(us: int, option: str, clock: Clock) -> int:
    """The time, when the events service takes events of it. Before anything is made: an experiment
    keeps its start for good.
    """
    latest = clock.now() + _LEAD
    if not 0 <= us <= microseconds(latest):
        raise invalid(
            option,
            _shown(us),
            f"from 1970-01-01 to {latest:%Y-%m-%dT%H:%M}Z, when it happened, in UTC",
        )
    return us


def _experiment(
    wanted: ExperimentFile,
    mapping: ExperimentMapping,
    found: Survey,
    there: experiment_pb2.Experiment | None,
) -> WantedExperiment:
    keys = mapping.variants
    control, weights = _split(wanted, keys, "" if there is None else there.control_variant)
    stop = _stop_us(wanted, found, mapping.start_us)
    return WantedExperiment(
        experiment_id=wanted.experiment,
        unit_type=wanted.unit_type,
        weights=weights,
        weights_named=bool(wanted.weights),
        titles={key: name for name, key in keys.items()},
        control=control,
        metrics=tuple(metric.metric_id for metric in mapping.metrics),
        start=stamp(mapping.start_us),
        stop=None if stop is None else stamp(max(stop, mapping.start_us)),
    )


def _split(
    wanted: ExperimentFile, keys: Mapping[str, str], known: str
) -> tuple[str, Mapping[str, int]]:
    """The control's key, and the weight of each key. `known`: the control that is there."""
    control_name = wanted.control or _control_name(keys, known)
    if control_name not in keys:
        raise invalid("--control", wanted.control, "one of " + ", ".join(map(repr, keys)))
    given = dict(parse_weight(text) for text in wanted.weights)
    if strangers := sorted(given.keys() - keys.keys()):
        raise invalid("--weight", strangers[0], "one of " + ", ".join(map(repr, keys)))
    # The control comes first, as a reader expects it.
    ordered = sorted(keys, key=lambda name: name != control_name)
    weights = relative_weights([(keys[name], given.get(name)) for name in ordered])
    return keys[control_name], weights


def _control_name(keys: Mapping[str, str], known: str) -> str:
    for name, key in keys.items():
        if key == known:
            return name
    first = next(iter(keys))
    say(f"control: {first} (the first in the file); --control names another")
    return first


def _shown(us: int) -> str:
    return (dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(microseconds=us)).isoformat()
