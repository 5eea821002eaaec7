"""Create, start, assign, log, read results and attribution, restart everything, read them again."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

import numpy as np
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from scipy import stats
from touchstone.assignment.v1 import assignment_service_pb2 as assign_pb
from touchstone.assignment.v1 import assignment_service_pb2_grpc as assign_grpc
from touchstone.assignment.v1 import experiment_pb2
from touchstone.assignment.v1 import experiment_service_pb2 as experiment_pb
from touchstone.assignment.v1 import experiment_service_pb2_grpc as experiment_grpc
from touchstone.attribution.v1 import attribution_pb2
from touchstone.attribution.v1 import attribution_service_pb2 as attribution_pb
from touchstone.attribution.v1 import attribution_service_pb2_grpc as attribution_grpc
from touchstone.common.v1 import unit_pb2
from touchstone.events.v1 import event_pb2
from touchstone.events.v1 import events_service_pb2 as events_pb
from touchstone.events.v1 import events_service_pb2_grpc as events_grpc
from touchstone.results.v1 import analysis_plan_pb2, metric_pb2, results_pb2
from touchstone.results.v1 import metric_service_pb2 as metric_pb
from touchstone.results.v1 import metric_service_pb2_grpc as metric_grpc
from touchstone.results.v1 import results_service_pb2 as results_pb
from touchstone.results.v1 import results_service_pb2_grpc as results_grpc

from tests.e2e.suite import Suite

UNITS = 10_000
PROJECT = "projects/default"
EXPERIMENT = "checkout-button"
START = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)
CHANNELS = ("display", "email", "search")


def stamp(seconds: float) -> Timestamp:
    """A time some seconds behind the start of the test's history."""
    time = Timestamp()
    time.FromDatetime(START + dt.timedelta(seconds=seconds))
    return time


def user(number: int) -> unit_pb2.UnitId:
    """The id of a simulated customer."""
    return unit_pb2.UnitId(type="user", id=f"customer-{number}")


def create_and_start(suite: Suite) -> None:
    """An experiment of two variants with two metrics, running."""
    metrics = metric_grpc.MetricServiceStub(suite.channel("results"))
    for name, kind in (
        ("purchase", metric_pb2.METRIC_KIND_PROPORTION),
        ("revenue", metric_pb2.METRIC_KIND_MEAN),
    ):
        metrics.CreateMetric(
            metric_pb.CreateMetricRequest(
                parent=PROJECT,
                metric_id=name,
                metric=metric_pb2.Metric(kind=kind, event_name="purchase"),
            ),
            metadata=suite.metadata,
        )
    experiments = experiment_grpc.ExperimentServiceStub(suite.channel("assignment"))
    draft = experiments.CreateExperiment(
        experiment_pb.CreateExperimentRequest(
            parent=PROJECT,
            experiment_id=EXPERIMENT,
            experiment=experiment_pb2.Experiment(
                variants=[
                    experiment_pb2.Variant(key="control", weight=5000),
                    experiment_pb2.Variant(key="treatment", weight=5000),
                ]
            ),
        ),
        metadata=suite.metadata,
    ).experiment
    assert draft.state == experiment_pb2.Experiment.STATE_DRAFT
    started = experiments.StartExperiment(
        experiment_pb.StartExperimentRequest(name=draft.name, etag=draft.etag),
        metadata=suite.metadata,
    ).experiment
    assert started.state == experiment_pb2.Experiment.STATE_RUNNING


def assign(suite: Suite) -> list[str]:
    """The variant of every simulated customer."""
    stub = assign_grpc.AssignmentServiceStub(suite.channel("assignment"))
    variants = []
    for first in range(0, UNITS, 2500):
        reply = stub.Assign(
            assign_pb.AssignRequest(
                units=[
                    assign_pb.UnitContext(ids=[user(number)])
                    for number in range(first, first + 2500)
                ],
                experiments=[EXPERIMENT],
            ),
            metadata=suite.metadata,
        )
        variants += [unit.decisions[0].variant for unit in reply.units]
    return variants


def simulated_events(variants: list[str], amounts: np.ndarray) -> Iterator[event_pb2.Event]:
    """An exposure of everybody, a purchase of those with an amount, and their touches."""
    for number, (variant, amount) in enumerate(zip(variants, amounts, strict=True)):
        yield event_pb2.Event(
            event_id=f"exposure-{number}",
            event_time=stamp(number),
            unit=user(number),
            exposure=event_pb2.Exposure(experiment=EXPERIMENT, variant=variant),
        )
        for touch in range(number % 4):
            yield event_pb2.Event(
                event_id=f"touch-{number}-{touch}",
                event_time=stamp(number + 10 * touch + 1),
                unit=user(number),
                touchpoint=event_pb2.Touchpoint(channel=CHANNELS[(number + touch) % 3], cost=0.5),
            )
        if amount:
            yield event_pb2.Event(
                event_id=f"purchase-{number}",
                event_time=stamp(number + 3600),
                unit=user(number),
                conversion=event_pb2.Conversion(event_name="purchase", value=amount),
            )


def log(suite: Suite, events: list[event_pb2.Event]) -> str:
    """Logs the events and returns the token of the last batch."""
    stub = events_grpc.EventsServiceStub(suite.channel("events"))
    token = ""
    for first in range(0, len(events), 2000):
        batch = events[first : first + 2000]
        reply = stub.LogEvents(events_pb.LogEventsRequest(events=batch), metadata=suite.metadata)
        assert (reply.accepted, reply.duplicates, len(reply.rejected)) == (len(batch), 0, 0)
        token = reply.consistency_token
    return token


def read_results(suite: Suite, token: str) -> results_pb2.Results:
    """The results, at least as fresh as the token."""
    stub = results_grpc.ResultsServiceStub(suite.channel("results"))
    return stub.GetResults(
        results_pb.GetResultsRequest(
            experiment=f"{PROJECT}/experiments/{EXPERIMENT}",
            consistency_token=token,
            methods=[analysis_plan_pb2.ANALYSIS_METHOD_FIXED],
        ),
        metadata=suite.metadata,
    ).results


def read_attribution(suite: Suite, token: str) -> attribution_pb.GetAttributionResponse:
    """Every model's credits, at least as fresh as the token."""
    stub = attribution_grpc.AttributionServiceStub(suite.channel("attribution"))
    return stub.GetAttribution(
        attribution_pb.GetAttributionRequest(
            journeys=attribution_pb2.JourneyDefinition(event_name="purchase"),
            consistency_token=token,
        ),
        metadata=suite.metadata,
    )


def check_results(results: results_pb2.Results, variants: list[str], amounts: np.ndarray) -> None:
    """The results equal an independent computation from the raw numbers, to 1e-9."""
    in_treatment = np.array([variant == "treatment" for variant in variants])
    assert [arm.units for arm in results.arms] == [
        int(np.sum(~in_treatment)),
        int(in_treatment.sum()),
    ]
    values = {"purchase": (amounts > 0).astype(float), "revenue": amounts}
    assert {metric.metric.rsplit("/", 1)[1] for metric in results.metrics} == set(values)
    for metric in results.metrics:
        y = values[metric.metric.rsplit("/", 1)[1]]
        control, treatment = y[~in_treatment], y[in_treatment]
        expected = stats.ttest_ind(treatment, control, equal_var=False)
        interval = expected.confidence_interval(0.95)
        (comparison,) = metric.comparisons
        (fixed,) = comparison.readings
        for got, want in (
            (metric.arms[0].mean.value, control.mean()),
            (metric.arms[1].mean.value, treatment.mean()),
            (metric.arms[1].variance.value, treatment.var(ddof=1)),
            (comparison.difference.value, treatment.mean() - control.mean()),
            (comparison.lift.value, treatment.mean() / control.mean() - 1),
            (fixed.p_value.value, expected.pvalue),
            (comparison.degrees_of_freedom.value, expected.df),
            (fixed.difference_interval.low, interval.low),
            (fixed.difference_interval.high, interval.high),
        ):
            assert got == pytest.approx(want, rel=1e-9, abs=1e-12)
        for read in (comparison, fixed):
            excludes_zero = not read.lift_interval.low <= 0 <= read.lift_interval.high
            assert excludes_zero == (read.p_value.value < 0.05)
    counts = np.array([arm.units for arm in results.arms])
    assert results.sample_ratio.p_value.value == pytest.approx(
        stats.chisquare(counts).pvalue, rel=1e-9
    )


def check_attribution(reply: attribution_pb.GetAttributionResponse, amounts: np.ndarray) -> None:
    """The simple models equal a count by hand, and every model shares out every conversion."""
    with_touch = [n for n in range(UNITS) if amounts[n] and n % 4]
    without = sum(1 for n in range(UNITS) if amounts[n] and not n % 4)
    assert reply.summary.converting_journeys == len(with_touch)
    assert reply.summary.conversions_without_touch == without
    by_model = {
        result.model_name: {line.channel: line for line in result.channels}
        for result in reply.results
    }
    first = dict.fromkeys(CHANNELS, 0.0)
    last = dict.fromkeys(CHANNELS, 0.0)
    linear = dict.fromkeys(CHANNELS, 0.0)
    for n in with_touch:
        touches = [CHANNELS[(n + touch) % 3] for touch in range(n % 4)]
        first[touches[0]] += 1
        last[touches[-1]] += 1
        for channel in touches:
            linear[channel] += 1 / len(touches)
    for name, expected in (("first_touch", first), ("last_touch", last), ("linear", linear)):
        got = {channel: line.conversions for channel, line in by_model[name].items()}
        assert got == pytest.approx(expected, rel=1e-9)
    for lines in by_model.values():
        total = sum(line.conversions for line in lines.values())
        assert total == pytest.approx(len(with_touch), rel=1e-9)
    assert {"position_based", "time_decay", "markov_removal_share", "markov_path_credit"} <= set(
        by_model
    )


def test_the_whole_loop_survives_a_restart(own_suite: Suite) -> None:
    """The loop of the product, checked by hand before and after everything was restarted."""
    create_and_start(own_suite)
    variants = assign(own_suite)
    assert set(variants) == {"control", "treatment"}
    rng = np.random.default_rng(7)
    probability = np.where(np.array(variants) == "treatment", 0.13, 0.10)
    amounts = (rng.random(UNITS) < probability) * np.round(rng.lognormal(3, 0.8, UNITS), 2)
    events = list(simulated_events(variants, amounts))
    token = log(own_suite, events)

    results = read_results(own_suite, token)
    check_results(results, variants, amounts)
    attribution = read_attribution(own_suite, token)
    check_attribution(attribution, amounts)

    assert own_suite.stop() == 0
    own_suite.start()
    assert assign(own_suite) == variants
    assert read_results(own_suite, token) == results
    assert read_attribution(own_suite, token) == attribution

    stub = events_grpc.EventsServiceStub(own_suite.channel("events"))
    again = stub.LogEvents(
        events_pb.LogEventsRequest(events=events[:2000]), metadata=own_suite.metadata
    )
    assert (again.accepted, again.duplicates) == (0, 2000)
