"""Bandits in the assignment service, read and changed with the caller's own credential."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import grpc
from touchstone.assignment.v1 import experiment_pb2
from touchstone.assignment.v1 import experiment_service_pb2 as pb
from touchstone.assignment.v1 import experiment_service_pb2_grpc as rpc

from services.results.adapters.assignment import caller_metadata
from services.results.ports import BanditExperiment, Handover
from shared.errors import failed_precondition, shown
from shared.resource_names import resource_name
from shared.server.status import from_rpc_error


@dataclass(frozen=True, slots=True)
class GrpcBandits:
    """See Bandits."""

    channel: grpc.Channel
    timeout_s: float = 5.0

    def bandit(self, project: str, experiment_id: str) -> BanditExperiment:
        """See Bandits."""
        request = pb.GetExperimentRequest(name=resource_name(project, "experiments", experiment_id))
        stub = rpc.ExperimentServiceStub(self.channel)
        try:
            reply = stub.GetExperiment(request, timeout=self.timeout_s, metadata=caller_metadata())
            experiment = reply.experiment
        except grpc.RpcError as error:
            raise from_rpc_error(cast("grpc.Call", error)) from error
        if experiment.allocation != experiment_pb2.ALLOCATION_BANDIT:
            raise failed_precondition(
                "WRONG_STATE",
                f"the weights of experiment {shown(experiment_id)} are fixed; weights can only "
                "follow the evidence where the allocation is BANDIT",
            )
        return BanditExperiment(
            etag=experiment.etag,
            dropped=frozenset(one.key for one in experiment.variants if one.dropped),
        )

    def hand_over(
        self, project: str, experiment_id: str, weights: Mapping[str, int], how: Handover
    ) -> None:
        """See Bandits."""
        request = pb.SetVariantWeightsRequest(
            name=resource_name(project, "experiments", experiment_id),
            weights=weights,
            etag=how.etag,
            request_id=how.request_id,
            validate_only=how.validate_only,
        )
        stub = rpc.ExperimentServiceStub(self.channel)
        try:
            stub.SetVariantWeights(request, timeout=self.timeout_s, metadata=caller_metadata())
        except grpc.RpcError as error:
            raise from_rpc_error(cast("grpc.Call", error)) from error
