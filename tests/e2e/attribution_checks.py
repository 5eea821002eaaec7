"""Asking the running service, and holding what it says to what plain loops count."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf import duration_pb2
from touchstone.attribution.v1 import attribution_pb2 as pb
from touchstone.attribution.v1 import attribution_service_pb2 as service_pb
from touchstone.attribution.v1 import attribution_service_pb2_grpc as service_grpc
from touchstone.attribution.v1 import (
    held_out_pb2,
    report_pb2,
    score_service_pb2,
    score_service_pb2_grpc,
    uncertainty_pb2,
)
from touchstone.attribution.v1 import report_service_pb2 as report_service_pb
from touchstone.attribution.v1 import report_service_pb2_grpc as report_grpc

from tests.e2e.attribution_history import definition_of, message_of
from tests.e2e.attribution_oracle import Event, Found, Journey, Rules
from tests.e2e.attribution_weights import Case, Weights, rules
from tests.e2e.suite import Suite
from tests.e2e.test_loop import PROJECT, log

RULES = rules()


@dataclass
class World:
    """What was logged, in the order of the log, and the service that it was logged to."""

    suite: Suite
    events: list[Event] = field(default_factory=list)
    token: str = ""

    def log(self, events: Sequence[Event]) -> None:
        self.token = log(self.suite, [message_of(event) for event in events])
        self.events += events

    def asked(
        self, definition: Rules, cases: Sequence[Case], min_units: int = 1
    ) -> service_pb.GetAttributionResponse:
        stub = service_grpc.AttributionServiceStub(self.suite.channel("attribution"))
        request = service_pb.GetAttributionRequest(
            journeys=definition_of(definition),
            models=[case.model for case in cases],
            consistency_token=self.token,
            min_units=min_units,
        )
        return stub.GetAttribution(request, metadata=self.suite.metadata)

    def watermark(self) -> str:
        """The newest cut, that holds all that was logged."""
        return self.asked(Rules(), RULES[:1]).provenance.watermark

    def report(
        self, name: str, definition: Rules, cases: Sequence[Case], as_of: str = ""
    ) -> report_pb2.AttributionReport:
        stub = report_grpc.ReportServiceStub(self.suite.channel("attribution"))
        begun = stub.RunAttribution(
            report_service_pb.RunAttributionRequest(
                parent=PROJECT,
                report_id=name,
                journeys=definition_of(definition),
                models=[case.model for case in cases],
                as_of=as_of or self.watermark(),
                min_units=1,
                bootstrap=uncertainty_pb2.Bootstrap(off=True),
                held_out=held_out_pb2.HeldOut(off=True),
            ),
            metadata=self.suite.metadata,
        )
        wait = operations_pb2.WaitOperationRequest(
            name=begun.operation.name, timeout=duration_pb2.Duration(seconds=30)
        )
        ended = operations_pb2_grpc.OperationsStub(self.suite.channel("attribution")).WaitOperation(
            wait, metadata=self.suite.metadata
        )
        assert ended.done
        assert not ended.HasField("error"), ended.error
        get = report_service_pb.GetReportRequest(name=f"{PROJECT}/attributionReports/{name}")
        return stub.GetReport(get, metadata=self.suite.metadata).report

    def why(self, report: str, conversion: str) -> score_service_pb2.GetConversionCreditsResponse:
        stub = score_service_pb2_grpc.ScoreServiceStub(self.suite.channel("attribution"))
        request = score_service_pb2.GetConversionCreditsRequest(
            report=report, conversion_id=conversion
        )
        return stub.GetConversionCredits(request, metadata=self.suite.metadata)


def distinct(cases: Sequence[Case]) -> list[Case]:
    """A model that is asked for twice, by its defaults and in words, is answered once."""
    found: dict[object, Case] = {}
    for case in cases:
        found.setdefault(case.meant, case)
    return list(found.values())


def totals(
    weights: Sequence[Weights], journeys: Sequence[Journey]
) -> dict[str, tuple[float, float]]:
    """Conversions and value of each label."""
    credited: dict[str, list[list[float]]] = defaultdict(lambda: [[], []])
    for own, journey in zip(weights, journeys, strict=True):
        for weight, label in zip(own, journey.path, strict=True):
            credited[label][0].append(weight)
            credited[label][1].append(weight * journey.value)
    return {label: (math.fsum(a), math.fsum(b)) for label, (a, b) in credited.items()}


def near(value: float) -> object:
    return pytest.approx(value, rel=1e-9, abs=1e-9)


def check_summary(summary: pb.JourneySummary, found: Found) -> None:
    converting = found.converting
    assert summary.journeys == len(found.journeys)
    assert summary.converting_journeys == len(converting)
    assert summary.conversions_without_touch == len(found.alone)
    assert summary.value == near(math.fsum(j.value for j in converting))
    assert summary.value_without_touch == near(
        math.fsum(bought.fields.get("value", 0.0) for bought in found.alone)
    )
    assert summary.units == len({journey.unit for journey in found.journeys})


def check_activity(activity: Sequence[pb.ChannelActivity], found: Found) -> None:
    for row in activity:
        holding = [journey for journey in found.journeys if row.channel in journey.path]
        assert row.journeys == len(holding), row.channel
        assert row.converting_journeys == sum(j.bought is not None for j in holding)
        assert row.units == len({journey.unit for journey in holding})


def check_result(result: pb.ModelResult, case: Case, found: Found) -> None:
    converting = found.converting
    weigh = case.prepare(found.journeys)
    weights = [weigh(journey) for journey in converting]
    expected = totals(weights, converting)
    assert result.model_name == case.name
    assert result.additive == case.additive
    said = {row.channel: row for row in result.channels}
    assert expected.keys() <= said.keys()
    for label, row in said.items():
        conversions, value = expected.get(label, (0.0, 0.0))
        at = f"{result.model} {label}"
        assert row.conversions == near(conversions), at
        assert row.value == near(value), at
        assert row.share == near(conversions / len(converting)), at
    if case.additive:
        whole = math.fsum(row.conversions for row in result.channels)
        assert whole + result.uncredited == near(len(converting))
        assert result.uncredited == near(sum(not sum(own) for own in weights))


def check_answer(
    answer: service_pb.GetAttributionResponse | report_pb2.AttributionReport,
    cases: Sequence[Case],
    found: Found,
) -> None:
    check_summary(answer.summary, found)
    check_activity(answer.activity, found)
    results = [r for r in answer.results if r.model_name != "markov_removal_share"]
    for result, case in zip(results, distinct(cases), strict=True):
        check_result(result, case, found)
