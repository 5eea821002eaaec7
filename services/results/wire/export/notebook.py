"""A Jupyter notebook that computes results again: DuckDB over the event tables, then statistics.

It shares nothing with the query of the service: its SQL is short enough to be read, and covers what
metrics are without filters. It names the others.
"""

import datetime as dt
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
from touchstone_statistics.gaps import FloatArray, GapArray
from touchstone_statistics.inference import Fixed

from services.results.domain.measure import Measure, MetricKind, Source
from services.results.domain.reading.report import ExperimentReport, Settled
from services.results.wire.export.recipe import CHECK, QUERY, SETTINGS, STATISTICS
from shared.lake.layout import unit_key
from shared.lake.watermark import ConsistencyToken

SHARES = {MetricKind.PROPORTION, MetricKind.FUNNEL, MetricKind.RETENTION}
MICROSECOND = dt.timedelta(microseconds=1)
DAY = dt.timedelta(days=1)
EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def encode_notebook(report: ExperimentReport, project: str) -> bytes:
    """The notebook, in the format of nbformat 4.5."""
    asked = _asked(report, project)
    words = _introduction(report, asked)
    settings = SETTINGS.replace("ASKED_JSON", repr(json.dumps(asked, sort_keys=True)))
    cells = [_markdown(words), *(_code(text) for text in (settings, QUERY, STATISTICS, CHECK))]
    for number, cell in enumerate(cells):
        cell["id"] = f"cell-{number}"
    notebook = {
        "cells": cells,
        "metadata": {"language_info": {"name": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return json.dumps(notebook, indent=1, ensure_ascii=False).encode()


def _introduction(report: ExperimentReport, asked: dict[str, Any]) -> str:
    """What the notebook does, and what it leaves out."""
    again = {metric["metric"] for metric in asked["metrics"]}
    ids = [one.metric.metric_id for one, _ in report.metrics]
    left_out = [one for one in ids if one not in again]
    words = (
        f"# {report.plan.experiment_id}\n\n"
        "The numbers of these results, computed again from the event tables of the cut "
        f"`{report.observation.cut.token}`. Run it where the lake can be read, with "
        "`TOUCHSTONE_LAKE` as its folder, and with the packages duckdb, deltalake and "
        "touchstone_statistics. It says which versions of the Delta tables it reads; rows after "
        "the cut are not read."
    )
    if report.observation.links.version:
        words += (
            "\n\nThe project links ids to one another. This notebook knows units and events by the "
            "ids that they were logged under only, so it computes nothing again."
        )
    if report.analysis.plan.clustering is not None:
        words += (
            "\n\nUnits are read by clusters. This notebook knows single units only, so it computes "
            "nothing again."
        )
    if beside := list(_beside(report)):
        words += f"\n\nOf {', '.join(beside)} it computes nothing again."
    if report.removed is not None:
        words += (
            "\n\nThe cut has lost events since it was first read, or nobody knows whether it has. "
            "These numbers are those of what is left."
        )
    if left_out:
        words += "\n\nNot computed again: " + ", ".join(f"`{one}`" for one in left_out) + "."
    return words


def _beside(report: ExperimentReport) -> Iterator[str]:
    """What stands beside the single look that is computed again."""
    settled = [found for _, found in report.metrics if isinstance(found, Settled)]
    if any(found.corrected.rejected.any() for found in settled):
        yield "significant effects corrected for having been chosen"
    if any(report.spans):
        yield "the spans of days"
    if any(one is not None for one in report.courses):
        yield "the course over the days"
    if report.revenues:
        yield "the posterior of revenue"


def covered(measure: Measure) -> bool:
    """Whether the notebook's SQL can say what a unit's number is."""
    sources = [measure.source, *measure.steps, *measure.covariates]
    if measure.denominator is not None:
        sources.append(measure.denominator)
    capped = measure.cap is not None and (
        measure.cap.absolute is None or measure.kind is not MetricKind.MEAN
    )
    return (
        all(source.filter is None for source in sources)
        and not capped
        and not measure.of_events
        and not measure.spans
        and not measure.logs
    )


def _asked(report: ExperimentReport, project: str) -> dict[str, Any]:
    plan, cut = report.plan, report.observation.cut
    token = ConsistencyToken.decode(cut.token) if cut.token else ConsistencyToken("", 0)
    return {
        "cut": cut.token,
        "journal": token.journal_id,
        "data_us": None if cut.data_time is None else (cut.data_time - EPOCH) // MICROSECOND,
        "project": project,
        "experiment": plan.experiment_id,
        "unit_type": plan.unit_type,
        "variants": [arm.variant for arm in plan.arms],
        "control": plan.control_index,
        "position": token.position,
        "forced": [unit_key(*unit) for unit in plan.forced],
        "exposures": report.analysis.plan.multiple_exposures.value,
        "alpha": report.alpha,
        "units": list(report.observation.units),
        "metrics": [_metric(report, found) for found in _again(report)],
    }


def _again(report: ExperimentReport) -> Iterator[Settled]:
    """The metrics that are computed again: none where events are found through links, or units
    are read by clusters.
    """
    if report.observation.links.version or report.analysis.plan.clustering is not None:
        return
    for _, found in report.metrics:
        if isinstance(found, Settled) and covered(_measure(found)):
            yield found


def _measure(found: Settled) -> Measure:
    return found.report.measured.measure


def _metric(report: ExperimentReport, found: Settled) -> dict[str, Any]:
    measure, contrast = _measure(found), found.report.contrast
    reading = Fixed(report.alpha).read(contrast)
    sources = [measure.source, *([measure.denominator] if measure.denominator else [])]
    low, high = _span(measure)
    return {
        "metric": found.report.asked.metric.metric_id,
        "version": found.report.asked.metric.version,
        "kind": "share" if measure.kind in SHARES else measure.kind.value,
        "sources": [_source(one) for one in sources],
        "steps": [one.event_name for one in measure.steps],
        "covariates": [_source(one) for one in measure.covariates],
        "quantile": measure.quantile,
        "cap": None if measure.cap is None else measure.cap.absolute,
        "low_us": low,
        "high_us": high,
        "age_us": _age(measure),
        "lookback_us": None if measure.lookback is None else measure.lookback // MICROSECOND,
        "expected": {
            "difference": _numbers(contrast.difference, contrast.gap),
            "std_err": _numbers(contrast.std_err, contrast.spread_gap),
            "lift": _numbers(contrast.lift, contrast.lift_gap),
            "p_value": _numbers(reading.p_value, reading.gap),
        },
    }


def _span(measure: Measure) -> tuple[int, int | None]:
    """From when to when after the first exposure events count, both included, in microseconds."""
    if measure.retention is not None:
        first, last = measure.retention.first_day, measure.retention.last_day
        return first * DAY // MICROSECOND, (last + 1) * DAY // MICROSECOND - 1
    high = None if measure.window is None else measure.window // MICROSECOND
    return measure.delay // MICROSECOND, high


def _age(measure: Measure) -> int | None:
    """How old a unit has to be to count, in microseconds; None where every unit counts."""
    if not measure.needs_age:
        return None
    if measure.retention is not None:
        return (measure.retention.last_day + 1) * DAY // MICROSECOND
    assert measure.window is not None, "what needs an age has a window"
    return measure.window // MICROSECOND


def _source(source: Source) -> dict[str, Any]:
    return {
        "event": source.event_name,
        "aggregation": source.aggregation.value,
        "currency": source.currency,
    }


def _numbers(values: FloatArray, gaps: GapArray) -> list[float | None]:
    """Each number, or null where there is none."""
    known = (gaps == 0) & np.isfinite(values)
    return [float(v) if k else None for v, k in zip(values, known, strict=True)]


def _markdown(words: str) -> dict[str, Any]:
    return {"cell_type": "markdown", "metadata": {}, "source": words.splitlines(keepends=True)}


def _code(text: str) -> dict[str, Any]:
    return {
        "cell_type": "code",
        "execution_count": None,
        "metadata": {},
        "outputs": [],
        "source": text.strip().splitlines(keepends=True),
    }
