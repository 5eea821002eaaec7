"""Every reading in a reply is one statement, and what the data cannot give is a reason: for all
kinds of metric, by every method, with healthy data and with next to none.
"""

import datetime as dt
import math
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from touchstone.assignment.v1 import experiment_pb2
from touchstone.results.v1 import analysis_plan_pb2, metric_pb2, results_pb2

from tests.contract.results_world import PROJECT, START, World, open_world

ALPHA = 0.05
GUARDED = metric_pb2.METRIC_ROLE_GUARDRAIL
COUNT = metric_pb2.AGGREGATION_COUNT
METRICS: Mapping[str, Mapping[str, Any]] = {
    "share": {"kind": "PROPORTION", "event_name": "buy"},
    "mean": {"kind": "MEAN", "event_name": "buy", "cap": metric_pb2.Cap(percentile=0.9)},
    "count": {"kind": "MEAN", "event_name": "buy", "aggregation": COUNT},
    "ratio": {
        "kind": "RATIO",
        "event_name": "buy",
        "denominator": metric_pb2.Source(event_name="buy", aggregation=COUNT),
    },
    "nothing-below": {
        "kind": "RATIO",
        "event_name": "buy",
        "denominator": metric_pb2.Source(event_name="never", aggregation=COUNT),
    },
    "median": {"kind": "QUANTILE", "event_name": "buy", "quantile": 0.5},
    "funnel": {
        "kind": "FUNNEL",
        "steps": [metric_pb2.Source(event_name="see"), metric_pb2.Source(event_name="buy")],
    },
    "time": {
        "kind": "TIME_TO_EVENT",
        "event_name": "buy",
        "conversion_window": Duration(seconds=3600),
    },
    "guard": {"kind": "MEAN", "event_name": "buy", "role": GUARDED, "margin": 0.1},
}
PURCHASES: Mapping[str, Mapping[str, list[float]]] = {
    "nobody": {},
    "one-arm": {"control": [1.0, 2.0, 0.0]},
    "one-unit": {"control": [1.0], "green": [2.0]},
    "alike": {"control": [5.0] * 40, "green": [5.0] * 40},
    "nobody-buys": {"control": [0.0] * 40, "green": [0.0] * 40},
    "control-buys-nothing": {"control": [0.0] * 40, "green": [3.0, 0.0] * 20},
    "below-zero": {"control": [-2.0, -3.0] * 20, "green": [-1.0, 2.0] * 20},
}
NO_DENOMINATOR = results_pb2.NOT_ESTIMABLE_ZERO_DENOMINATOR
REASONS = {"nobody": results_pb2.NOT_ESTIMABLE_NO_UNITS}
METHODS = ("FIXED", "GROUP_SEQUENTIAL", "ANYTIME", "HYBRID")


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as found:
        for name, fields in METRICS.items():
            kind = metric_pb2.MetricKind.Value(f"METRIC_KIND_{fields['kind']}")
            await found.owner.define(name, metric_pb2.Metric(**{**fields, "kind": kind}))
        yield found


async def begin(world: World, name: str, method: str) -> str:
    """An experiment of two arms, read by a method."""
    experiment = f"{PROJECT}/experiments/{name}"
    world.played.more[experiment] = experiment_pb2.Experiment(
        unit_type="user",
        variants=[experiment_pb2.Variant(key=key, weight=5000) for key in ("control", "green")],
        control_variant="control",
        config_version=1,
    )
    plan = analysis_plan_pb2.AnalysisPlan(
        name=f"{experiment}/analysisPlan",
        method=analysis_plan_pb2.AnalysisMethod.Value(f"ANALYSIS_METHOD_{method}"),
        planned_units=600,
    )
    mask = FieldMask(paths=["method", "planned_units"])
    await world.owner.call("UpdateAnalysisPlan", analysis_plan=plan, update_mask=mask)
    return experiment


def logged(name: str, amounts: Mapping[str, list[float]], of: str = "") -> dict[str, Any]:
    """Who has an amount above or below 0 saw something, and bought for it twenty minutes later."""
    exposures: list[dict[str, Any]] = []
    conversions: list[dict[str, Any]] = []
    for variant, values in amounts.items():
        for number, amount in enumerate(values):
            unit = {"unit_id": f"{name}-{of}-{variant}-{number}"}
            exposures.append(unit | {"experiment": name, "variant": variant})
            if amount:
                later = START + dt.timedelta(minutes=20)
                conversions.append(unit | {"event_name": "see"})
                conversions.append(
                    unit | {"event_name": "buy", "value": amount, "event_time": later}
                )
    return {"exposures": exposures, "conversions": conversions}


def covers(interval: results_pb2.Interval, null: float) -> bool:
    low = -math.inf if interval.low_unbounded else interval.low
    high = math.inf if interval.high_unbounded else interval.high
    return not low < null < high if interval.complement else low <= null <= high


def readings(of: Message) -> Iterator[Any]:
    """Every message below that has a p-value and intervals."""
    for field, value in of.ListFields():
        if field.message_type is None:
            continue
        for part in value if field.is_repeated else [value]:
            if hasattr(part, "p_value") and hasattr(part, "difference_interval"):
                yield part
            yield from readings(part)


def numbers(of: Message) -> Iterator[float]:
    for field, value in of.ListFields():
        for part in value if field.is_repeated else [value]:
            if isinstance(part, Message):
                yield from numbers(part)
            elif isinstance(part, float):
                yield part


def coherent(results: results_pb2.Results) -> tuple[int, int]:
    """How many readings there are, and how many of them reject."""
    assert all(math.isfinite(number) for number in numbers(results))
    found = rejected = 0
    for reading in readings(results):
        for interval in (reading.difference_interval, reading.lift_interval):
            if not reading.p_value.HasField("value"):
                assert reading.p_value.not_estimable
                assert interval.not_estimable
                continue
            known = not interval.not_estimable or interval.complement or interval.low_unbounded
            if not known:
                continue  # The lift on a control of 0, say: the reason is there.
            says = (
                reading.rejected
                if isinstance(reading, results_pb2.AdjustedReading)
                else reading.p_value.value < ALPHA
            )
            assert says != covers(interval, 0.0), reading
            found, rejected = found + 1, rejected + says
    guards = [c.non_inferiority for m in results.metrics for c in m.comparisons]
    for guard in guards:
        if guard.p_value.HasField("value") and not guard.lift_interval.not_estimable:
            assert guard.non_inferior != covers(guard.lift_interval, -guard.margin)
    return found, rejected


@pytest.mark.parametrize("method", METHODS)
async def test_whatever_is_rejected_is_outside_its_interval(world: World, method: str) -> None:
    """At three looks, beside the other methods; what a decision to stop rests on never rises."""
    experiment = await begin(world, "healthy", method)
    rng = np.random.default_rng(4)
    others = [analysis_plan_pb2.AnalysisMethod.Value(f"ANALYSIS_METHOD_{m}") for m in METHODS]
    smallest: dict[str, float] = {}
    counts = np.zeros(2, dtype=int)
    for look in range(3):
        amounts = {
            arm: list(rng.lognormal(2 + gain, 1, 100) * (rng.random(100) < 0.5 + gain))
            for arm, gain in (("control", 0.0), ("green", 0.15))
        }
        world.write(logged("healthy", amounts, of=str(look)), position=look + 1)
        results = await world.owner.results(experiment=experiment, methods=others)
        counts += coherent(results)
        for metric in results.metrics:
            running = metric.comparisons[0].running_p_value
            if running.HasField("value"):
                assert running.value <= smallest.get(metric.metric, 1.0)
                smallest[metric.metric] = running.value
    assert counts[0] > counts[1] > 0
    assert bool(smallest) == (method != "FIXED")


@pytest.mark.parametrize("method", METHODS)
async def test_next_to_no_data_has_reasons_and_takes_nothing_else_away(
    world: World, method: str
) -> None:
    """Row 56: no units, one unit, no variance, nobody or everybody converts, nothing below."""
    for position, (name, amounts) in enumerate(PURCHASES.items()):
        experiment = await begin(world, name, method)
        if amounts:
            world.write(logged(name, amounts), position=position)
        results = await world.owner.results(experiment=experiment)
        coherent(results)
        assert sorted(m.metric.rpartition("/")[2] for m in results.metrics) == sorted(METRICS)
        for metric in results.metrics:
            assert not metric.HasField("error"), metric.error
            comparison = metric.comparisons[0]
            assert comparison.p_value.WhichOneof("result")
            if metric.metric.endswith("nothing-below"):
                assert comparison.p_value.not_estimable == REASONS.get(name, NO_DENOMINATOR), name
        health = (await world.owner.call("GetHealth", experiment=experiment)).health
        assert all(math.isfinite(number) for number in numbers(health))
        assert [d.verdict for d in results.decisions] == [results_pb2.VERDICT_CANNOT_TELL]
