"""A Jupyter notebook that computes results again: DuckDB over the event tables, then statistics.

It shares nothing with the query of the service: its SQL is short enough to be read, and covers what
most metrics are. It names the others.
"""

import datetime as dt
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
from touchstone_statistics.gaps import FloatArray, GapArray
from touchstone_statistics.inference import Fixed

from services.results.domain.measure import Aggregation, Measure, MetricKind, Source
from services.results.domain.reading.report import ExperimentReport, Settled
from services.results.wire.export.recipe import CHECK, QUERY, SETTINGS, STATISTICS
from shared.lake.layout import unit_key
from shared.lake.watermark import ConsistencyToken

KINDS = {MetricKind.PROPORTION, MetricKind.MEAN, MetricKind.RATIO}
AGGREGATIONS = {Aggregation.SUM, Aggregation.COUNT}
MICROSECOND = dt.timedelta(microseconds=1)


def encode_notebook(report: ExperimentReport, project: str) -> bytes:
    """The notebook, in the format of nbformat 4.5."""
    asked = _asked(report, project)
    again = {metric["metric"] for metric in asked["metrics"]}
    ids = [one.metric.metric_id for one, _ in report.metrics]
    left_out = [one for one in ids if one not in again]
    words = (
        f"# {report.plan.experiment_id}\n\n"
        "The numbers of these results, computed again from the event tables of the cut "
        f"`{report.observation.cut.token}`. Run it where the lake can be read, with "
        "`TOUCHSTONE_LAKE` as its folder, and with the packages duckdb, deltalake and "
        "touchstone_statistics. Rows that came after the cut are not read, whatever version of the "
        "tables is there."
    )
    if report.observation.links.version:
        words += (
            "\n\nThe project links ids to one another. This notebook knows units and events by the "
            "ids that they were logged under only, so it computes nothing again."
        )
    if left_out:
        words += "\n\nNot computed again: " + ", ".join(f"`{one}`" for one in left_out) + "."
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


def covered(measure: Measure) -> bool:
    """Whether the notebook's SQL can say what a unit's number is."""
    plain = measure.filter is None and measure.cap is None and not measure.covariates
    below = measure.denominator
    return (
        plain
        and measure.kind in KINDS
        and not measure.complete_only
        and measure.aggregation in AGGREGATIONS
        and (below is None or (below.filter is None and below.aggregation in AGGREGATIONS))
    )


def _asked(report: ExperimentReport, project: str) -> dict[str, Any]:
    plan, token = report.plan, report.observation.cut.token
    return {
        "project": project,
        "experiment": plan.experiment_id,
        "unit_type": plan.unit_type,
        "variants": [arm.variant for arm in plan.arms],
        "control": plan.control_index,
        "position": ConsistencyToken.decode(token).position if token else 0,
        "forced": [unit_key(*unit) for unit in plan.forced],
        "exposures": report.analysis.plan.multiple_exposures.value,
        "alpha": report.alpha,
        "units": list(report.observation.units),
        "metrics": [_metric(report, found) for found in _again(report)],
    }


def _again(report: ExperimentReport) -> Iterator[Settled]:
    """The metrics that are computed again: none where events are found through links."""
    if report.observation.links.version:
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
    return {
        "metric": found.report.asked.metric.metric_id,
        "version": found.report.asked.metric.version,
        "share": measure.kind is MetricKind.PROPORTION,
        "sources": [_source(one) for one in sources],
        "window_us": None if measure.window is None else measure.window // MICROSECOND,
        "delay_us": measure.delay // MICROSECOND,
        "lookback_us": None if measure.lookback is None else measure.lookback // MICROSECOND,
        "expected": {
            "difference": _numbers(contrast.difference, contrast.gap),
            "std_err": _numbers(contrast.std_err, contrast.spread_gap),
            "lift": _numbers(contrast.lift, contrast.lift_gap),
            "p_value": _numbers(reading.p_value, reading.gap),
        },
    }


def _source(source: Source) -> dict[str, Any]:
    counted = source.aggregation is Aggregation.COUNT
    return {"event": source.event_name, "count": counted, "currency": source.currency}


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
