"""Plans of experiments from the assignment service, read with the caller's own credential."""

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import cast

import grpc
from touchstone.assignment.v1 import experiment_pb2
from touchstone.assignment.v1 import experiment_service_pb2 as pb
from touchstone.assignment.v1 import experiment_service_pb2_grpc as rpc

from services.results.domain.clustering import Switchback
from services.results.domain.observation import Arm, ExperimentPlan
from shared.errors import failed_precondition, shown
from shared.resource_names import project_name, resource_name
from shared.security.caller import current_call
from shared.server.status import REQUEST_ID, from_rpc_error

_PAGE = 1000


@dataclass(frozen=True, slots=True)
class GrpcExperimentSource:
    """See ExperimentSource."""

    channel: grpc.Channel
    timeout_s: float = 5.0

    def experiment(self, project: str, experiment_id: str) -> ExperimentPlan:
        """See ExperimentSource."""
        name, metadata = resource_name(project, "experiments", experiment_id), caller_metadata()
        stub = rpc.ExperimentServiceStub(self.channel)
        try:
            reply = stub.GetExperiment(
                pb.GetExperimentRequest(name=name), timeout=self.timeout_s, metadata=metadata
            )
            forced: list[pb.ForcedVariant] = []
            request = pb.ListForcedVariantsRequest(experiment=name, page_size=_PAGE)
            while True:
                page = stub.ListForcedVariants(request, timeout=self.timeout_s, metadata=metadata)
                forced += page.forced_variants
                if not page.next_page_token:
                    break
                request.page_token = page.next_page_token
        except grpc.RpcError as error:
            # What a blocking client raises is the failed call itself.
            raise from_rpc_error(cast("grpc.Call", error)) from error
        return plan_of(experiment_id, reply.experiment, forced)

    def running(self, project: str) -> Sequence[ExperimentPlan]:
        """See ExperimentCatalogue."""
        return self._in_states(project, (experiment_pb2.Experiment.STATE_RUNNING,))

    def finished(self, project: str) -> Sequence[ExperimentPlan]:
        """See ExperimentCatalogue."""
        over = (experiment_pb2.Experiment.STATE_STOPPED, experiment_pb2.Experiment.STATE_ARCHIVED)
        return self._in_states(project, over)

    def _in_states(
        self, project: str, states: Iterable[experiment_pb2.Experiment.State.ValueType]
    ) -> Sequence[ExperimentPlan]:
        request = pb.ListExperimentsRequest(
            parent=project_name(project), page_size=_PAGE, states=states
        )
        stub = rpc.ExperimentServiceStub(self.channel)
        found: list[experiment_pb2.Experiment] = []
        try:
            while True:
                page = stub.ListExperiments(
                    request, timeout=self.timeout_s, metadata=caller_metadata()
                )
                found += page.experiments
                if not page.next_page_token:
                    break
                request.page_token = page.next_page_token
        except grpc.RpcError as error:
            raise from_rpc_error(cast("grpc.Call", error)) from error
        return [plan_of(one.name.rsplit("/", 1)[-1], one) for one in found if len(one.variants) > 1]

    def require(self, project: str, experiment_id: str) -> None:
        """See ExperimentSource."""
        request = pb.GetExperimentRequest(name=resource_name(project, "experiments", experiment_id))
        stub = rpc.ExperimentServiceStub(self.channel)
        try:
            stub.GetExperiment(request, timeout=self.timeout_s, metadata=caller_metadata())
        except grpc.RpcError as error:
            raise from_rpc_error(cast("grpc.Call", error)) from error


def caller_metadata() -> tuple[tuple[str, str], ...]:
    """What another service is told of the caller: the credential, and the id of the request."""
    call = current_call()
    return (("authorization", call.authorization), (REQUEST_ID, call.request_id))


def plan_of(
    experiment_id: str,
    experiment: experiment_pb2.Experiment,
    forced: Iterable[pb.ForcedVariant] = (),
) -> ExperimentPlan:
    """What results need of an experiment as the assignment service describes it.

    FAILED_PRECONDITION for one that has nothing to compare yet.
    """
    arms = tuple(Arm(variant.key, variant.weight) for variant in experiment.variants)
    if len(arms) < 2:
        raise failed_precondition(
            "WRONG_STATE",
            f"experiment {shown(experiment_id)} has {len(arms)} variants; a comparison needs at "
            "least 2: add variants and start it",
        )
    return ExperimentPlan(
        experiment_id=experiment_id,
        unit_type=experiment.unit_type or "user",
        arms=arms,
        control=experiment.control_variant or arms[0].variant,
        config_version=experiment.config_version,
        metric_ids=tuple(name.rsplit("/", 1)[-1] for name in experiment.metrics),
        forced=tuple((found.unit.type, found.unit.id) for found in forced),
        planned_end=_time(experiment.schedule, "stop_time"),
        start=_time(experiment, "start_time"),
        switchback=_windows(experiment),
    )


def _windows(experiment: experiment_pb2.Experiment) -> Switchback | None:
    if not experiment.HasField("switchback"):
        return None
    found = experiment.switchback
    return Switchback(dt.timedelta(seconds=found.window_s), dt.timedelta(seconds=found.washout_s))


def _time(
    message: experiment_pb2.Experiment | experiment_pb2.Schedule, field: str
) -> dt.datetime | None:
    if not message.HasField(field):  # type: ignore[arg-type]  # its name is a field of both
        return None
    found: dt.datetime = getattr(message, field).ToDatetime(dt.UTC)
    return found
