"""A budget that is spread by calibrated credit brings more than one that is spread by last touch.

What a channel reaches grows with its spend of the day, with less and less for each further unit of
money. Spend is imported by day, curves are fitted to it, and kappas come from the experiments that
switch the channels.
"""

from __future__ import annotations

import datetime as dt

import numpy as np
import pytest
from numpy.typing import NDArray
from touchstone.attribution.v1 import (
    budget_pb2,
    calibration_pb2,
    economics_service_pb2,
    economics_service_pb2_grpc,
    scenario_service_pb2,
    scenario_service_pb2_grpc,
    spend_service_pb2,
    spend_service_pb2_grpc,
)
from touchstone.attribution.v1 import calibration_service_pb2 as calibration_pb
from touchstone.events.v1 import events_service_pb2 as events_pb
from touchstone.events.v1 import events_service_pb2_grpc as events_grpc
from touchstone.results.v1 import results_service_pb2 as results_pb
from touchstone.results.v1 import results_service_pb2_grpc as results_grpc

from tests.e2e.channel_world import (
    CHANNELS,
    EFFECTS,
    INTENT,
    REACHED,
    START,
    TOUCH_DAYS,
    customers,
    events,
)
from tests.e2e.suite import Suite
from tests.e2e.test_calibration import (
    EXPERIMENTS,
    ORDER,
    PROJECT,
    REPORT,
    calibrated,
    calibration,
    create,
    links,
    run_report,
)

UNITS = 8000
DAYS = 28
SEED = 5
MOST = 100.0
HALF = 20.0
TOTAL = 120.0
"""The budget of a day."""


def intensity(spend: NDArray[np.float64]) -> NDArray[np.float64]:
    """How much of what it could reach a channel does reach for its spend of a day."""
    reached: NDArray[np.float64] = np.log1p(spend / HALF) / np.log1p(MOST / HALF)
    return reached


def truly_brings(spends: dict[str, float]) -> float:
    """Purchases of a day that are caused, where no channel is switched off."""
    reached = np.array([1 - INTENT, INTENT]) @ REACHED
    spent = np.array([spends[channel] for channel in CHANNELS])
    return float(UNITS / DAYS * (EFFECTS * reached * intensity(spent)).sum())


def write(suite: Suite) -> None:
    """The customers, the spend of each day, the report and the links."""
    create(suite)
    draw = np.random.default_rng(SEED)
    on = draw.random((UNITS, len(CHANNELS))) < 0.5
    spends = np.round(draw.uniform(2.0, MOST, (DAYS, len(CHANNELS))), 2)
    variants = {
        name: np.where(column, "shown", "held-out").tolist()
        for name, column in zip(EXPERIMENTS.values(), on.T, strict=True)
    }
    who = customers(on, SEED, intensity(spends[np.arange(UNITS) % DAYS]))
    logged = list(events(who, variants, ORDER, DAYS))
    stub = events_grpc.EventsServiceStub(suite.channel("events"))
    for first in range(0, len(logged), 2000):
        batch = events_pb.LogEventsRequest(events=logged[first : first + 2000])
        reply = stub.LogEvents(batch, metadata=suite.metadata)
        assert not reply.rejected
    results_grpc.ResultsServiceStub(suite.channel("results")).GetResults(
        results_pb.GetResultsRequest(
            experiment=f"{PROJECT}/experiments/{EXPERIMENTS['mail']}",
            consistency_token=reply.consistency_token,
        ),
        metadata=suite.metadata,
    )
    import_spend(suite, spends)
    run_report(suite)
    for link_id, link in links().items():
        request = calibration_pb.CreateCalibrationLinkRequest(
            parent=PROJECT, calibration_link_id=link_id, calibration_link=link
        )
        calibration(suite).CreateCalibrationLink(request, metadata=suite.metadata)


def import_spend(suite: Suite, spends: NDArray[np.float64]) -> None:
    """What was paid for the touches of each day."""
    rows = [
        spend_service_pb2.Spend(
            source="books",
            channel=channel,
            day=(START + dt.timedelta(days=day + TOUCH_DAYS[place])).date().isoformat(),
            amount=float(spends[day, place]),
            currency="USD",
        )
        for place, channel in enumerate(CHANNELS)
        for day in range(DAYS)
    ]
    spend_service_pb2_grpc.SpendServiceStub(suite.channel("attribution")).ImportSpend(
        spend_service_pb2.ImportSpendRequest(parent=PROJECT, rows=rows), metadata=suite.metadata
    )


def spread(suite: Suite, *, calibrate: bool) -> economics_service_pb2.AllocateBudgetResponse:
    """The spread by last touch, as it is or calibrated."""
    lines = [
        budget_pb2.BudgetLine(
            channel=channel, measured=budget_pb2.MeasuredHistory(), calibrate=calibrate
        )
        for channel in CHANNELS
    ]
    request = economics_service_pb2.AllocateBudgetRequest(
        lines=lines,
        total=TOTAL,
        evidence=economics_service_pb2.BudgetEvidence(report=REPORT, model_name="last_touch"),
    )
    stub = economics_service_pb2_grpc.EconomicsServiceStub(suite.channel("attribution"))
    return stub.AllocateBudget(request, metadata=suite.metadata)


def test_a_calibrated_budget_truly_brings_more(own_suite: Suite) -> None:
    write(own_suite)
    by_credit, by_cause = (spread(own_suite, calibrate=each) for each in (False, True))

    credited, caused = (
        {one.channel: one.spend for one in found.allocation.channels}
        for found in (by_credit, by_cause)
    )
    assert sum(credited.values()) == pytest.approx(TOTAL)
    assert sum(caused.values()) == pytest.approx(TOTAL)
    # Last touch pays the channel that causes nothing; experiments take it away.
    assert credited["retargeting"] > 0.2 * TOTAL
    assert caused["retargeting"] < 0.5 * credited["retargeting"]
    assert truly_brings(caused) > 1.05 * truly_brings(credited)
    # What was used is said, and the uncertainty of kappa is in what is expected.
    said = by_cause.provenance
    report = calibrated(own_suite)
    assert said.calibration_digest == report.digest
    assert said.spend_digest
    assert said.report_digest == report.provenance.report_digest
    assert said.calibration_watermark == report.provenance.watermark
    kappas = {one.channel: one.kappa for one in report.results[0].channels}
    for one in by_cause.allocation.channels:
        assert one.kappa == kappas[one.channel]
        assert one.kappa.basis == calibration_pb2.KAPPA_BASIS_TESTED
        assert one.measured.days >= 14
    gain = by_cause.allocation.gain
    assert gain.value.value > 0
    assert gain.low.value < gain.value.value < gain.high.value
    # A channel is charged with what was imported, and not with what its touches cost.
    charged = {one.channel: one for one in report.costs}
    for channel in CHANNELS:
        assert charged[channel].sources == ["books"]
        assert not charged[channel].from_touches
    check_scene(own_suite, report)


def check_scene(suite: Suite, report: calibration_pb2.CalibratedReport) -> None:
    """A scene reads what an experiment measured, as the link of the report did."""
    comparison = scenario_service_pb2.MeasuredComparison(
        experiment=f"{PROJECT}/experiments/{EXPERIMENTS['display']}",
        variant="shown",
        control="held-out",
        metric=f"{PROJECT}/metrics/calibrated-orders",
        as_of=report.provenance.watermark,
    )
    measured = scenario_service_pb2.ScenarioInput(value=0.5, comparison=comparison)
    one = scenario_service_pb2.ScenarioInput(value=1)
    product = scenario_service_pb2.ScenarioProduct(
        product="orders", visitors=one, share=measured, convenience=one, value=one
    )
    dearer = scenario_service_pb2.ScenarioProduct(
        product="baskets",
        visitors=one,
        share=scenario_service_pb2.ScenarioInput(comparison=comparison),
        convenience=one,
        value=scenario_service_pb2.ScenarioInput(value=2),
    )
    request = scenario_service_pb2.ValueScenarioRequest(products=[product, dearer])
    stub = scenario_service_pb2_grpc.ScenarioServiceStub(suite.channel("attribution"))
    found = stub.ValueScenario(request, metadata=suite.metadata)
    (link,) = (test for test in report.tests if test.link.name.endswith("/display"))
    read, again = found.measurements
    assert read.difference == again.difference
    assert read.difference.value.value == pytest.approx(link.difference)
    assert read.difference.value.std_err == pytest.approx(link.std_err)
    assert read.provenance == link.provenance
    assert found.total.value == pytest.approx(3 * link.difference)
    # What the experiment overstates in one product it overstates in the other.
    assert found.total.std_err == pytest.approx(3 * link.std_err)
    assert found.checks[0].flagged
