"""AnalysisPlanService: decode, handle, encode."""

import asyncio
from dataclasses import dataclass

import grpc
from touchstone.results.v1 import analysis_plan_service_pb2 as pb
from touchstone.results.v1 import analysis_plan_service_pb2_grpc as rpc

from services.results.application.analysis_plans import (
    ListLooks,
    get_plan,
    list_looks,
    update_plan,
)
from services.results.ports import ExperimentSource, PlanReader, PlanWriter
from services.results.wire.analysis_plans import (
    decode_name,
    decode_patch,
    decode_target,
    encode_look,
    encode_plan,
)
from shared.clock import Clock
from shared.mutations import Mutation
from shared.resource_names import require_id
from shared.security.caller import current_caller
from shared.state.paging import read_page


@dataclass(frozen=True, slots=True)
class Plans:
    """Where plans are kept, and the experiments that they are of."""

    experiments: ExperimentSource
    reader: PlanReader
    writer: PlanWriter
    clock: Clock


class AnalysisPlanServicer(rpc.AnalysisPlanServiceServicer):
    """How the experiments of the caller's project are read; the work is done in threads."""

    def __init__(self, plans: Plans) -> None:
        self._plans = plans

    async def GetAnalysisPlan(
        self, request: pb.GetAnalysisPlanRequest, context: grpc.ServicerContext
    ) -> pb.GetAnalysisPlanResponse:
        """Reads the plan of an experiment."""
        project = current_caller().project
        experiment_id = decode_name(request.name, project)

        def answer() -> pb.GetAnalysisPlanResponse:
            self._plans.experiments.require(project, experiment_id)
            with self._plans.reader.read() as store:
                stored = get_plan(project, experiment_id, request.version, store)
            message = encode_plan(stored, project, experiment_id)
            return pb.GetAnalysisPlanResponse(analysis_plan=message)

        return await asyncio.to_thread(answer)

    async def UpdateAnalysisPlan(
        self, request: pb.UpdateAnalysisPlanRequest, context: grpc.ServicerContext
    ) -> pb.UpdateAnalysisPlanResponse:
        """Changes the fields that the mask names."""
        project, name = current_caller().project, request.analysis_plan.name
        target = decode_target(request.analysis_plan, project)
        patch = decode_patch(request.analysis_plan, list(request.update_mask.paths))
        mutation = Mutation(request, name, request.request_id, request.validate_only)
        plans = self._plans
        await asyncio.to_thread(plans.experiments.require, project, target.experiment_id)
        return await asyncio.to_thread(
            plans.writer.write,
            mutation,
            lambda store: pb.UpdateAnalysisPlanResponse(
                analysis_plan=encode_plan(
                    update_plan(target, patch, store, plans.clock.now()),
                    project,
                    target.experiment_id,
                )
            ),
        )

    async def ListLooks(
        self, request: pb.ListLooksRequest, context: grpc.ServicerContext
    ) -> pb.ListLooksResponse:
        """Lists the looks that were taken at an experiment."""
        project = current_caller().project
        experiment_id = require_id(request.experiment, project, "experiments")
        command = ListLooks.of(project, experiment_id, read_page(request, project))

        def answer() -> pb.ListLooksResponse:
            self._plans.experiments.require(project, experiment_id)
            with self._plans.reader.read() as store:
                found = list_looks(command, store)
            return pb.ListLooksResponse(
                looks=[encode_look(look) for look in found.looks],
                next_page_token=found.next_page_token,
            )

        return await asyncio.to_thread(answer)
