"""Credit corrected by experiments recovers what channels caused, where credit alone does not."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf.duration_pb2 import Duration
from touchstone.assignment.v1 import experiment_pb2
from touchstone.assignment.v1 import experiment_service_pb2 as experiment_pb
from touchstone.assignment.v1 import experiment_service_pb2_grpc as experiment_grpc
from touchstone.attribution.v1 import attribution_pb2, calibration_pb2
from touchstone.attribution.v1 import calibration_service_pb2 as pb
from touchstone.attribution.v1 import calibration_service_pb2_grpc as rpc
from touchstone.attribution.v1 import report_service_pb2 as report_pb
from touchstone.attribution.v1 import report_service_pb2_grpc as report_grpc
from touchstone.events.v1 import events_service_pb2 as events_pb
from touchstone.events.v1 import events_service_pb2_grpc as events_grpc
from touchstone.results.v1 import metric_pb2
from touchstone.results.v1 import metric_service_pb2 as metric_pb
from touchstone.results.v1 import metric_service_pb2_grpc as metric_grpc
from touchstone.results.v1 import results_service_pb2 as results_pb
from touchstone.results.v1 import results_service_pb2_grpc as results_grpc

from tests.e2e.channel_world import AMOUNT, CHANNELS, COST, Customers, customers, events
from tests.e2e.suite import Suite

UNITS = 5000
SEED = 3
"""One draw; how often intervals hold the truth over many is a test of the domain."""
PROJECT = "projects/default"
REPORT = f"{PROJECT}/attributionReports/truth"
ORDER = "calibrated-order"
EXPERIMENTS = {channel: f"switch-{channel}" for channel in CHANNELS}


@pytest.fixture(scope="module")
def suite(module_suite: Suite) -> Suite:
    """Of its own: what is counted here is all that there is."""
    return module_suite


class World(NamedTuple):
    """The customers, and their report as it was corrected."""

    suite: Suite
    who: Customers
    report: calibration_pb2.CalibratedReport


@pytest.fixture(scope="module")
def world(suite: Suite) -> World:
    create(suite)
    # The tests draw who is shown what, so that a run is like any other: salts are drawn by chance.
    on = np.random.default_rng(SEED).random((UNITS, len(CHANNELS))) < 0.5
    variants = {
        name: np.where(column, "shown", "held-out").tolist()
        for name, column in zip(EXPERIMENTS.values(), on.T, strict=True)
    }
    who = customers(on, SEED)
    token = ""
    logged = list(events(who, variants, ORDER))
    stub = events_grpc.EventsServiceStub(suite.channel("events"))
    for first in range(0, len(logged), 2000):
        batch = events_pb.LogEventsRequest(events=logged[first : first + 2000])
        reply = stub.LogEvents(batch, metadata=suite.metadata)
        assert not reply.rejected
        token = reply.consistency_token
    results_grpc.ResultsServiceStub(suite.channel("results")).GetResults(
        results_pb.GetResultsRequest(
            experiment=f"{PROJECT}/experiments/{EXPERIMENTS['mail']}", consistency_token=token
        ),
        metadata=suite.metadata,
    )
    run_report(suite)
    for link_id, link in links().items():
        request = pb.CreateCalibrationLinkRequest(
            parent=PROJECT, calibration_link_id=link_id, calibration_link=link
        )
        calibration(suite).CreateCalibrationLink(request, metadata=suite.metadata)
    return World(suite, who, calibrated(suite))


def create(suite: Suite) -> None:
    """Metrics of the orders, and an experiment that switches each channel."""
    metrics = metric_grpc.MetricServiceStub(suite.channel("results"))
    for name, kind in (
        ("calibrated-orders", metric_pb2.METRIC_KIND_PROPORTION),
        ("calibrated-revenue", metric_pb2.METRIC_KIND_MEAN),
    ):
        request = metric_pb.CreateMetricRequest(
            parent=PROJECT,
            metric_id=name,
            metric=metric_pb2.Metric(kind=kind, event_name=ORDER),
        )
        metrics.CreateMetric(request, metadata=suite.metadata)
    experiments = experiment_grpc.ExperimentServiceStub(suite.channel("assignment"))
    for name in EXPERIMENTS.values():
        variants = [experiment_pb2.Variant(key=key, weight=5000) for key in ("held-out", "shown")]
        draft = experiments.CreateExperiment(
            experiment_pb.CreateExperimentRequest(
                parent=PROJECT,
                experiment_id=name,
                experiment=experiment_pb2.Experiment(
                    variants=variants,
                    assignment_source=experiment_pb2.ASSIGNMENT_SOURCE_EXTERNAL,
                ),
            ),
            metadata=suite.metadata,
        ).experiment
        experiments.StartExperiment(
            experiment_pb.StartExperimentRequest(name=draft.name, etag=draft.etag),
            metadata=suite.metadata,
        )


def run_report(suite: Suite) -> None:
    models = [attribution_pb2.Model() for _ in range(3)]
    for model, kind in zip(models, ("last_touch", "linear", "markov"), strict=True):
        getattr(model, kind).SetInParent()
    begun = report_grpc.ReportServiceStub(suite.channel("attribution")).RunAttribution(
        report_pb.RunAttributionRequest(
            parent=PROJECT,
            report_id="truth",
            journeys=attribution_pb2.JourneyDefinition(event_name=ORDER),
            models=models,
        ),
        metadata=suite.metadata,
    )
    ended = operations_pb2_grpc.OperationsStub(suite.channel("attribution")).WaitOperation(
        operations_pb2.WaitOperationRequest(
            name=begun.operation.name, timeout=Duration(seconds=20)
        ),
        metadata=suite.metadata,
    )
    assert ended.done
    assert not ended.HasField("error"), ended.error


def links() -> dict[str, calibration_pb2.CalibrationLink]:
    """Links by experiment, by control group, and with the treatment that switches off."""
    metrics = f"{PROJECT}/metrics"
    on, off = calibration_pb2.CHANNEL_SWITCH_ON, calibration_pb2.CHANNEL_SWITCH_OFF
    named = {channel: f"{PROJECT}/experiments/{name}" for channel, name in EXPERIMENTS.items()}

    def compared(
        channel: str, treatment: str, control: str
    ) -> calibration_pb2.ExperimentComparison:
        return calibration_pb2.ExperimentComparison(
            experiment=named[channel], treatment_variant=treatment, control_variant=control
        )

    def group(variant: str) -> calibration_pb2.TestedVariant:
        return calibration_pb2.TestedVariant(experiment=named["mail"], variant=variant)

    return {
        "display": calibration_pb2.CalibrationLink(
            channel="display",
            metric=f"{metrics}/calibrated-orders",
            experiment_comparison=compared("display", "shown", "held-out"),
            treatment=on,
        ),
        "mail": calibration_pb2.CalibrationLink(
            channel="mail",
            metric=f"{metrics}/calibrated-orders",
            control_group=calibration_pb2.ControlGroupComparison(
                control=group("held-out"), waves=[group("shown")]
            ),
            treatment=on,
        ),
        "retargeting": calibration_pb2.CalibrationLink(
            channel="retargeting",
            metric=f"{metrics}/calibrated-orders",
            experiment_comparison=compared("retargeting", "held-out", "shown"),
            treatment=off,
        ),
        "retargeting-value": calibration_pb2.CalibrationLink(
            channel="retargeting",
            metric=f"{metrics}/calibrated-revenue",
            experiment_comparison=compared("retargeting", "shown", "held-out"),
            treatment=on,
        ),
    }


def calibration(suite: Suite) -> rpc.CalibrationServiceStub:
    return rpc.CalibrationServiceStub(suite.channel("attribution"))


def calibrated(suite: Suite) -> calibration_pb2.CalibratedReport:
    request = pb.CalibrateReportRequest(report=REPORT)
    return calibration(suite).CalibrateReport(request, metadata=suite.metadata).calibrated_report


def test_calibrated_credit_recovers_the_truth_and_credit_alone_does_not(world: World) -> None:
    truth = world.who.caused
    names = [result.model_name for result in world.report.results]
    assert names == ["last_touch", "linear", "markov_removal_share", "markov_path_credit"]
    for result in world.report.results:
        channels = {channel.channel: channel for channel in result.channels}
        assert tuple(channels) == CHANNELS
        missed, left = 0.0, 0.0
        for name, channel in channels.items():
            found = channel.incremental_conversions
            assert found.low.value <= truth[name] <= found.high.value, (result.model_name, name)
            missed += (channel.conversions - truth[name]) ** 2
            left += (found.value.value - truth[name]) ** 2
        # The correction takes away more than half of the error of credit alone.
        assert np.sqrt(left) < np.sqrt(missed) / 2, result.model_name
        # Nothing was caused by what gets much of the credit, and the interval knows it.
        retargeting = channels["retargeting"]
        # A credit is a count: three of its standard deviations are generous.
        assert retargeting.conversions > 3 * np.sqrt(retargeting.conversions)
        assert retargeting.conversions > 60
        assert retargeting.incremental_conversions.high.value < retargeting.conversions


def test_value_and_cost_follow_what_was_caused(world: World) -> None:
    last_touch = world.report.results[0]
    channels = {channel.channel: channel for channel in last_touch.channels}
    display, retargeting = channels["display"], channels["retargeting"]
    cost = COST * int(world.who.shown[:, 0].sum())
    assert display.cost.value == pytest.approx(cost)
    caused = display.incremental_conversions.value.value
    assert display.cost_per_incremental_conversion.value.value == pytest.approx(cost / caused)
    # No test measured the value of display: its orders are worth what orders are worth.
    assert display.value_kappa.basis == calibration_pb2.KAPPA_BASIS_OF_CONVERSIONS
    assert display.incremental_value.value.value == pytest.approx(AMOUNT * caused)
    assert retargeting.value_kappa.basis == calibration_pb2.KAPPA_BASIS_TESTED
    low, high = retargeting.incremental_value.low, retargeting.incremental_value.high
    assert low.value <= 0.0 <= high.value
    assert retargeting.cost_per_incremental_conversion.high.value == 0
    assert retargeting.cost_per_incremental_conversion.high.undefined
    assert retargeting.cost_per_conversion.value > 0


def test_the_same_inputs_give_the_same_bytes_and_say_what_they_are(world: World) -> None:
    again = calibrated(world.suite)
    assert again.SerializeToString(deterministic=True) == world.report.SerializeToString(
        deterministic=True
    )
    assert len(again.digest) == 64
    assert again.provenance.report_digest
    for test in again.tests:
        assert test.used
        assert test.provenance.watermark == again.provenance.watermark
        assert test.provenance.config_versions
        assert test.units_on + test.units_off == UNITS
        assert test.credited_units_on == test.units_on
    assert [test.link.name.rsplit("/", 1)[1] for test in again.tests] == sorted(links())


def test_a_link_to_what_is_not_there_is_refused_at_once(world: World) -> None:
    named = {
        "--experiment": "switch-mail",
        "--treatment": "shown",
        "--control": "held-out",
        "--metric": "calibrated-orders",
    }
    for option, wrong, said in (
        ("--experiment", "switch-nothing", "no experiment 'switch-nothing'"),
        ("--treatment", "seen", "allowed: held-out, shown"),
        ("--metric", "nothing", "no metric 'projects/default/metrics/nothing'"),
    ):
        asked = [part for pair in (named | {option: wrong}).items() for part in pair]
        found = world.suite.run(
            "calibration", "create", "other", "--channel", "mail", *asked, status=None
        )
        assert found.returncode != 0
        assert said in " ".join((found.stdout + found.stderr).replace("\n", " ").split())


def test_the_command_line_says_what_kappas_were_shrunk_by(world: World) -> None:
    found = world.suite.run("calibration", "report", "truth")
    assert "kappas are shrunk toward 1 by a prior of 0.5, the default" in found.stderr
    # The experiments have no end, so that they are read by looks.
    assert (
        "display: read at one look: the interval that holds whenever one looks is" in found.stderr
    )
