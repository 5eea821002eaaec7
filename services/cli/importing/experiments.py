"""Imports the file of a finished experiment: the experiment, its metrics, its events."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass

from services.cli.importing.cells import microseconds, stamp
from services.cli.importing.definitions import (
    WantedExperiment,
    adopt_experiment,
    ensure_metric,
    make_experiment,
    start_us,
    stop_experiment,
)
from services.cli.importing.experiment_rows import (
    ExperimentMapping,
    ExperimentRows,
    MetricColumn,
)
from services.cli.importing.names import distinct_keys, event_name
from services.cli.importing.report import Report
from services.cli.importing.runs import Run, run
from services.cli.importing.survey import Survey, survey
from services.cli.options import parse_time
from services.cli.session import Session
from services.cli.splits import parse_weight, relative_weights
from services.cli.terminal import say
from shared.clock import Clock
from shared.errors import failed_precondition, invalid

_KINDS = {"proportion": True, "mean": False}


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
    currency: str
    keep_running: bool
    dataset: str
    source: str


def import_experiment(
    session: Session, wanted: ExperimentFile, run_of: Run, clock: Clock
) -> Report:
    """Makes the experiment and its metrics when they are not there, replays every row, and stops
    the experiment. Doing it again changes nothing.
    """
    kinds = [_metric_kind(text) for text in wanted.metrics]
    found = survey(run_of.source, wanted.variant, [name for name, _ in kinds], wanted.time)
    keys = distinct_keys(found.variants)
    experiment = _experiment(wanted, keys)
    existing = adopt_experiment(session, experiment)
    start = _start_us(wanted, found, None if existing is None else start_us(existing), clock)
    mapping = _mapping(wanted, found, keys, start)
    rows = ExperimentRows(mapping, run_of.source)
    if existing is None:
        make_experiment(session, experiment, stamp(start))
        split = " ".join(f"{key}={weight}" for key, weight in experiment.weights.items())
        say(f"made experiment {wanted.experiment}: {split}")
    for place, metric in enumerate(mapping.metrics):
        if ensure_metric(session, metric, wanted.currency, primary=place == 0):
            kind = "proportion" if metric.proportion else "mean"
            say(f"made metric {metric.event_name}: the {kind} of column {metric.column}")
    report = run(session, run_of, rows.events, mapping)
    if not wanted.keep_running:
        stop_experiment(session, wanted.experiment)
    return report


def _metric_kind(text: str) -> tuple[str, bool | None]:
    column, separator, kind = text.rpartition(":")
    if separator and kind in _KINDS:
        return column, _KINDS[kind]
    return text, None


def _mapping(
    wanted: ExperimentFile, found: Survey, keys: Mapping[str, str], start: int
) -> ExperimentMapping:
    metrics = tuple(
        MetricColumn(column, event_name(column), column in found.flags if kind is None else kind)
        for column, kind in map(_metric_kind, wanted.metrics)
    )
    covariates = tuple((column, event_name(column)) for column in wanted.covariates)
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
    """When the experiment began. With a column of times: at the earliest. Otherwise: when the user
    says, else when the experiment that is there did, else at the beginning of this day.
    """
    given = None
    if wanted.start:
        given = microseconds(parse_time(wanted.start, "--start").ToDatetime(dt.UTC))
    if wanted.time is not None:
        if given is None and found.earliest_us is None:
            raise invalid("--time", wanted.time, "a column of times; this one holds none")
        return given if given is not None else found.earliest_us or 0
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


def _experiment(wanted: ExperimentFile, keys: Mapping[str, str]) -> WantedExperiment:
    control, weights = _split(wanted, keys)
    return WantedExperiment(
        experiment_id=wanted.experiment,
        unit_type=wanted.unit_type,
        weights=weights,
        weights_named=bool(wanted.weights),
        titles={key: name for name, key in keys.items()},
        control=control,
    )


def _split(wanted: ExperimentFile, keys: Mapping[str, str]) -> tuple[str, Mapping[str, int]]:
    control_name = wanted.control or next(iter(keys))
    if control_name not in keys:
        raise invalid("--control", wanted.control, "one of " + ", ".join(map(repr, keys)))
    given = dict(parse_weight(text) for text in wanted.weights)
    if strangers := sorted(given.keys() - keys.keys()):
        raise invalid("--weight", strangers[0], "one of " + ", ".join(map(repr, keys)))
    # The control comes first, as a reader expects it.
    ordered = sorted(keys, key=lambda name: (name != control_name, name))
    weights = relative_weights([(keys[name], given.get(name)) for name in ordered])
    return keys[control_name], weights


def _shown(us: int) -> str:
    return (dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(microseconds=us)).isoformat()
