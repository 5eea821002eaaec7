"""Calls to the four services with the key of this user."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self, TypeVar

import grpc
from google.longrunning import operations_pb2_grpc as operations_grpc
from touchstone.assignment.v1 import assignment_service_pb2_grpc as assignment_grpc
from touchstone.assignment.v1 import audience_service_pb2_grpc as audience_grpc
from touchstone.assignment.v1 import check_service_pb2_grpc as check_grpc
from touchstone.assignment.v1 import domain_service_pb2_grpc as domain_grpc
from touchstone.assignment.v1 import experiment_service_pb2_grpc as experiment_grpc
from touchstone.assignment.v1 import layer_service_pb2_grpc as layer_grpc
from touchstone.assignment.v1 import schema_service_pb2_grpc as schema_grpc
from touchstone.assignment.v1 import unit_service_pb2_grpc as unit_grpc
from touchstone.attribution.v1 import attribution_service_pb2_grpc as attribution_grpc
from touchstone.attribution.v1 import calibration_service_pb2_grpc as calibration_grpc
from touchstone.attribution.v1 import economics_service_pb2_grpc as economics_grpc
from touchstone.attribution.v1 import grouping_service_pb2_grpc as grouping_grpc
from touchstone.attribution.v1 import path_service_pb2_grpc as path_grpc
from touchstone.attribution.v1 import referral_service_pb2_grpc as referral_grpc
from touchstone.attribution.v1 import report_service_pb2_grpc as report_grpc
from touchstone.attribution.v1 import scenario_service_pb2_grpc as scenario_grpc
from touchstone.attribution.v1 import schedule_service_pb2_grpc as schedule_grpc
from touchstone.attribution.v1 import score_service_pb2_grpc as score_grpc
from touchstone.attribution.v1 import spend_service_pb2_grpc as spend_grpc
from touchstone.common.v1 import access_service_pb2 as access_pb
from touchstone.common.v1 import access_service_pb2_grpc as access_grpc
from touchstone.events.v1 import backup_service_pb2_grpc as backup_grpc
from touchstone.events.v1 import erasure_service_pb2_grpc as erasure_grpc
from touchstone.events.v1 import events_service_pb2_grpc as events_grpc
from touchstone.events.v1 import identity_service_pb2_grpc as identity_grpc
from touchstone.events.v1 import rejected_events_service_pb2_grpc as rejected_grpc
from touchstone.events.v1 import retention_service_pb2_grpc as retention_grpc
from touchstone.events.v1.events_service_pb2 import LogEventsResponse
from touchstone.results.v1 import analysis_plan_service_pb2_grpc as plan_grpc
from touchstone.results.v1 import bandit_service_pb2_grpc as bandit_grpc
from touchstone.results.v1 import evaluation_service_pb2_grpc as evaluation_grpc
from touchstone.results.v1 import export_service_pb2_grpc as export_grpc
from touchstone.results.v1 import metric_service_pb2_grpc as metric_grpc
from touchstone.results.v1 import planning_service_pb2_grpc as planning_grpc
from touchstone.results.v1 import results_service_pb2_grpc as results_grpc

from services.cli.owner import find_key
from services.cli.settings import CliSettings, read_settings
from shared.ids import IdGenerator, RandomIds
from shared.resource_names import project_name, resource_name
from shared.server.channel import open_channel
from shared.settings import ServiceName

S = TypeVar("S")
# Longer than the longest that a server gives a call: the server's own limit is the one that ends
# a call, with its reason.
_DEADLINE_S = 150.0
_STREAM_DEADLINE_S = 660.0
_LOG_EVENTS = "/touchstone.events.v1.EventsService/LogEvents"


class _Details(NamedTuple):
    method: str
    timeout: float | None
    metadata: Any
    credentials: Any
    wait_for_ready: Any
    compression: Any


class _Calls(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
):
    """Adds the key, a deadline where the caller gave none, and a request id where there is a
    place for one: the channel repeats a call whose answer was lost, and it must change things once.
    """

    def __init__(self, key: str, ids: IdGenerator) -> None:
        self._authorization = ("authorization", f"Bearer {key}")
        self._ids = ids

    def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        """The call with what it needs."""
        # What comes as bytes is events, which have ids of their own.
        has_id = not isinstance(request, bytes) and "request_id" in (
            request.DESCRIPTOR.fields_by_name
        )
        if has_id and not request.request_id:
            request.request_id = self._ids.new()
        return continuation(self._with_key(details, _DEADLINE_S), request)

    def intercept_unary_stream(self, continuation: Any, details: Any, request: Any) -> Any:
        """The call with what it needs."""
        return continuation(self._with_key(details, _STREAM_DEADLINE_S), request)

    def _with_key(self, details: Any, longest_s: float) -> _Details:
        timeout = longest_s if details.timeout is None else details.timeout
        return _Details(
            details.method,
            timeout,
            [*(details.metadata or ()), self._authorization],
            details.credentials,
            details.wait_for_ready,
            details.compression,
        )


class Session:
    """One user's connection to the suite. Channels open when they are first needed."""

    def __init__(self, settings: CliSettings, *, operator: bool = False) -> None:
        self.settings = settings
        self.key, self.key_source = find_key(settings, operator=operator)
        self._channels: dict[ServiceName, grpc.Channel] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for channel in self._channels.values():
            channel.close()

    @property
    def access(self) -> access_grpc.AccessServiceStub:
        """The keys of the project."""
        return self._stub("assignment", access_grpc.AccessServiceStub)

    @property
    def audit(self) -> access_grpc.AuditServiceStub:
        """The audit log of the project."""
        return self._stub("assignment", access_grpc.AuditServiceStub)

    @property
    def assignment(self) -> assignment_grpc.AssignmentServiceStub:
        """Decisions."""
        return self._stub("assignment", assignment_grpc.AssignmentServiceStub)

    @property
    def experiments(self) -> experiment_grpc.ExperimentServiceStub:
        """Experiments."""
        return self._stub("assignment", experiment_grpc.ExperimentServiceStub)

    @property
    def layers(self) -> layer_grpc.LayerServiceStub:
        """Layers."""
        return self._stub("assignment", layer_grpc.LayerServiceStub)

    @property
    def domains(self) -> domain_grpc.DomainServiceStub:
        """Domains and holdouts."""
        return self._stub("assignment", domain_grpc.DomainServiceStub)

    @property
    def audiences(self) -> audience_grpc.AudienceServiceStub:
        """Audiences."""
        return self._stub("assignment", audience_grpc.AudienceServiceStub)

    @property
    def schema(self) -> schema_grpc.SchemaServiceStub:
        """Unit types and attributes."""
        return self._stub("assignment", schema_grpc.SchemaServiceStub)

    @property
    def checks(self) -> check_grpc.CheckServiceStub:
        """Tests of the assignment itself."""
        return self._stub("assignment", check_grpc.CheckServiceStub)

    @property
    def check_operations(self) -> operations_grpc.OperationsStub:
        """The long-running operations of the assignment service."""
        return self._stub("assignment", operations_grpc.OperationsStub)

    @property
    def units(self) -> unit_grpc.UnitServiceStub:
        """What assignment keeps of single units."""
        return self._stub("assignment", unit_grpc.UnitServiceStub)

    @property
    def events(self) -> events_grpc.EventsServiceStub:
        """The event log."""
        return self._stub("events", events_grpc.EventsServiceStub)

    @property
    def log_events(self) -> grpc.UnaryUnaryMultiCallable[bytes, LogEventsResponse]:
        """LogEvents for requests that are bytes already."""
        return self._stub(
            "events",
            lambda channel: channel.unary_unary(
                _LOG_EVENTS, response_deserializer=LogEventsResponse.FromString
            ),
        )

    @property
    def backups(self) -> backup_grpc.BackupServiceStub:
        """Backups of the installation."""
        return self._stub("events", backup_grpc.BackupServiceStub)

    @property
    def event_operations(self) -> operations_grpc.OperationsStub:
        """The long-running operations of the events service."""
        return self._stub("events", operations_grpc.OperationsStub)

    @property
    def rejected(self) -> rejected_grpc.RejectedEventsServiceStub:
        """The events that were rejected."""
        return self._stub("events", rejected_grpc.RejectedEventsServiceStub)

    @property
    def erasures(self) -> erasure_grpc.ErasureServiceStub:
        """What was erased."""
        return self._stub("events", erasure_grpc.ErasureServiceStub)

    @property
    def retention(self) -> retention_grpc.RetentionServiceStub:
        """How long events are kept."""
        return self._stub("events", retention_grpc.RetentionServiceStub)

    @property
    def identity(self) -> identity_grpc.IdentityServiceStub:
        """Which ids are one thing."""
        return self._stub("events", identity_grpc.IdentityServiceStub)

    @property
    def metrics(self) -> metric_grpc.MetricServiceStub:
        """Metric definitions."""
        return self._stub("results", metric_grpc.MetricServiceStub)

    @property
    def planning(self) -> planning_grpc.PlanningServiceStub:
        """Plans of experiments."""
        return self._stub("results", planning_grpc.PlanningServiceStub)

    @property
    def results(self) -> results_grpc.ResultsServiceStub:
        """Results."""
        return self._stub("results", results_grpc.ResultsServiceStub)

    @property
    def plans(self) -> plan_grpc.AnalysisPlanServiceStub:
        """Analysis plans, and the looks that were taken."""
        return self._stub("results", plan_grpc.AnalysisPlanServiceStub)

    @property
    def evaluations(self) -> evaluation_grpc.EvaluationServiceStub:
        """What several experiments show together."""
        return self._stub("results", evaluation_grpc.EvaluationServiceStub)

    @property
    def bandits(self) -> bandit_grpc.BanditServiceStub:
        """Weights that follow the evidence."""
        return self._stub("results", bandit_grpc.BanditServiceStub)

    @property
    def exports(self) -> export_grpc.ExportServiceStub:
        """Results as files."""
        return self._stub("results", export_grpc.ExportServiceStub)

    @property
    def attribution(self) -> attribution_grpc.AttributionServiceStub:
        """Credits."""
        return self._stub("attribution", attribution_grpc.AttributionServiceStub)

    @property
    def groupings(self) -> grouping_grpc.ChannelGroupingServiceStub:
        """Channel groupings."""
        return self._stub("attribution", grouping_grpc.ChannelGroupingServiceStub)

    @property
    def reports(self) -> report_grpc.ReportServiceStub:
        """Attribution that is kept."""
        return self._stub("attribution", report_grpc.ReportServiceStub)

    @property
    def schedules(self) -> schedule_grpc.ReportScheduleServiceStub:
        """Attribution that is run again and again."""
        return self._stub("attribution", schedule_grpc.ReportScheduleServiceStub)

    @property
    def scores(self) -> score_grpc.ScoreServiceStub:
        """The credits behind reports."""
        return self._stub("attribution", score_grpc.ScoreServiceStub)

    @property
    def report_operations(self) -> operations_grpc.OperationsStub:
        """The long-running operations of the attribution service."""
        return self._stub("attribution", operations_grpc.OperationsStub)

    @property
    def calibration(self) -> calibration_grpc.CalibrationServiceStub:
        """Credit corrected by experiments."""
        return self._stub("attribution", calibration_grpc.CalibrationServiceStub)

    @property
    def spend(self) -> spend_grpc.SpendServiceStub:
        """What was paid for channels."""
        return self._stub("attribution", spend_grpc.SpendServiceStub)

    @property
    def economics(self) -> economics_grpc.EconomicsServiceStub:
        """Credit against money."""
        return self._stub("attribution", economics_grpc.EconomicsServiceStub)

    @property
    def scenarios(self) -> scenario_grpc.ScenarioServiceStub:
        """Values of scenes."""
        return self._stub("attribution", scenario_grpc.ScenarioServiceStub)

    @property
    def paths(self) -> path_grpc.PathServiceStub:
        """What journeys look like."""
        return self._stub("attribution", path_grpc.PathServiceStub)

    @property
    def referrals(self) -> referral_grpc.ReferralServiceStub:
        """How referral campaigns do."""
        return self._stub("attribution", referral_grpc.ReferralServiceStub)

    @cached_property
    def project(self) -> str:
        """The project of the key, as the server says it."""
        return str(self.access.GetCaller(access_pb.GetCallerRequest()).project)

    @property
    def parent(self) -> str:
        """The resource name of the project."""
        return project_name(self.project)

    def name(self, collection: str, text: str) -> str:
        """The resource name of what the user named: a bare id, or a whole name as it is."""
        return text if "/" in text else resource_name(self.project, collection, text)

    def _stub(self, service: ServiceName, make: Callable[[grpc.Channel], S]) -> S:
        if service not in self._channels:
            plain = open_channel(self.settings.address(service), self.settings.client_tls)
            self._channels[service] = grpc.intercept_channel(plain, _Calls(self.key, RandomIds()))
        return make(self._channels[service])


def open_session(data: Path | None = None) -> Session:
    """A session by the settings. Raises UNAUTHENTICATED when no key is found."""
    return Session(read_settings(data))


def open_operator_session(data: Path | None = None) -> Session:
    """A session with the key that looks after the installation."""
    return Session(read_settings(data), operator=True)
