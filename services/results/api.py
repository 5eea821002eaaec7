"""MetricService and ResultsService: decode, handle, encode."""

import asyncio

import grpc
from touchstone.results.v1 import metric_service_pb2 as metric_pb
from touchstone.results.v1 import metric_service_pb2_grpc as metric_rpc
from touchstone.results.v1 import results_service_pb2 as pb
from touchstone.results.v1 import results_service_pb2_grpc as rpc
from touchstone_statistics.bayes import LiftPrior

from services.results.application.change_metric import archive_metric, update_metric
from services.results.application.create_metric import create_metric
from services.results.application.find_metric import get_metric, list_metrics
from services.results.application.get_results import Sources, get_results
from services.results.decode import (
    decode_create,
    decode_get_results,
    decode_list,
    decode_patch,
    decode_target,
)
from services.results.encode import encode_metric, encode_results
from services.results.ports import MetricReader, MetricWriter
from shared.clock import Clock
from shared.lake.analyses import Analyses
from shared.mutations import Mutation
from shared.resource_names import require_id, resource_name
from shared.security.caller import current_caller
from shared.version import VERSION

# The rest of the time is for the answer itself.
_WAITING_PART_OF_DEADLINE = 0.8


class MetricServicer(metric_rpc.MetricServiceServicer):
    """Metric definitions of the caller's project; the work is done in threads."""

    def __init__(self, reader: MetricReader, writer: MetricWriter, clock: Clock) -> None:
        self._reader = reader
        self._writer = writer
        self._clock = clock

    async def CreateMetric(
        self, request: metric_pb.CreateMetricRequest, context: grpc.ServicerContext
    ) -> metric_pb.CreateMetricResponse:
        """Defines a metric."""
        command = decode_create(request, current_caller().project)
        name = resource_name(command.project, "metrics", command.metric_id)
        mutation = Mutation(request, name, request.request_id, request.validate_only)
        return await asyncio.to_thread(
            self._writer.write,
            mutation,
            lambda store: metric_pb.CreateMetricResponse(
                metric=encode_metric(create_metric(command, store, self._clock.now()))
            ),
        )

    async def GetMetric(
        self, request: metric_pb.GetMetricRequest, context: grpc.ServicerContext
    ) -> metric_pb.GetMetricResponse:
        """Reads one metric."""
        project = current_caller().project
        metric_id = require_id(request.name, project, "metrics")

        def answer() -> metric_pb.GetMetricResponse:
            with self._reader.read() as store:
                metric = get_metric(project, metric_id, store)
            return metric_pb.GetMetricResponse(metric=encode_metric(metric))

        return await asyncio.to_thread(answer)

    async def ListMetrics(
        self, request: metric_pb.ListMetricsRequest, context: grpc.ServicerContext
    ) -> metric_pb.ListMetricsResponse:
        """Lists metrics by name."""
        command = decode_list(request, current_caller().project)

        def answer() -> metric_pb.ListMetricsResponse:
            with self._reader.read() as store:
                page = list_metrics(command, store)
            return metric_pb.ListMetricsResponse(
                metrics=[encode_metric(metric) for metric in page.metrics],
                next_page_token=page.next_page_token,
            )

        return await asyncio.to_thread(answer)

    async def UpdateMetric(
        self, request: metric_pb.UpdateMetricRequest, context: grpc.ServicerContext
    ) -> metric_pb.UpdateMetricResponse:
        """Changes the fields that the mask names and raises the version."""
        name = request.metric.name
        target = decode_target(name, request.metric.etag, current_caller().project)
        patch = decode_patch(request.metric, list(request.update_mask.paths))
        mutation = Mutation(request, name, request.request_id, request.validate_only)
        return await asyncio.to_thread(
            self._writer.write,
            mutation,
            lambda store: metric_pb.UpdateMetricResponse(
                metric=encode_metric(update_metric(target, patch, store, self._clock.now()))
            ),
        )

    async def ArchiveMetric(
        self, request: metric_pb.ArchiveMetricRequest, context: grpc.ServicerContext
    ) -> metric_pb.ArchiveMetricResponse:
        """Puts a metric away."""
        target = decode_target(request.name, request.etag, current_caller().project)
        mutation = Mutation(request, request.name, request.request_id, request.validate_only)
        return await asyncio.to_thread(
            self._writer.write,
            mutation,
            lambda store: metric_pb.ArchiveMetricResponse(
                metric=encode_metric(archive_metric(target, store, self._clock.now()))
            ),
        )


class ResultsServicer(rpc.ResultsServiceServicer):
    """What the experiments of the caller's project show.

    Results are computed in the threads of `analyses`, never in those that every call needs.
    """

    def __init__(
        self, sources: Sources, prior: LiftPrior, analyses: Analyses, longest_wait_s: float
    ) -> None:
        self._sources = sources
        self._prior = prior
        self._analyses = analyses
        self._longest_wait_s = longest_wait_s

    async def GetResults(
        self, request: pb.GetResultsRequest, context: grpc.ServicerContext
    ) -> pb.GetResultsResponse:
        """Computes the results of an experiment from the event log as it is now."""
        project = current_caller().project
        command = decode_get_results(request, project, self._prior)
        wait_s = self._wait_s(context)
        await self._sources.moments.wait_until(request.consistency_token, wait_s)
        report = await self._analyses.run(lambda: get_results(command, self._sources))
        return pb.GetResultsResponse(results=encode_results(report, project, VERSION))

    def _wait_s(self, context: grpc.ServicerContext) -> float:
        left_s = context.time_remaining()
        longest_s = self._longest_wait_s
        return longest_s if left_s is None else min(longest_s, left_s * _WAITING_PART_OF_DEADLINE)
