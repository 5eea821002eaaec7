"""MetricService: decode, handle, encode."""

import asyncio

import grpc
from touchstone.results.v1 import metric_service_pb2 as pb
from touchstone.results.v1 import metric_service_pb2_grpc as rpc

from services.results.application.change_metric import archive_metric, update_metric
from services.results.application.create_metric import create_metric
from services.results.application.find_metric import (
    get_definition,
    get_metric,
    list_metric_versions,
    list_metrics,
)
from services.results.ports import MetricReader, MetricWriter
from services.results.wire.metric_decode import (
    decode_create,
    decode_list,
    decode_list_versions,
    decode_patch,
    decode_target,
)
from services.results.wire.metric_encode import encode_metric, encode_version
from shared.clock import Clock
from shared.mutations import Mutation
from shared.resource_names import require_id, resource_name
from shared.security.caller import current_caller


class MetricServicer(rpc.MetricServiceServicer):
    """Metric definitions of the caller's project; the work is done in threads."""

    def __init__(self, reader: MetricReader, writer: MetricWriter, clock: Clock) -> None:
        self._reader = reader
        self._writer = writer
        self._clock = clock

    async def CreateMetric(
        self, request: pb.CreateMetricRequest, context: grpc.ServicerContext
    ) -> pb.CreateMetricResponse:
        """Defines a metric."""
        command = decode_create(request, current_caller().project)
        name = resource_name(command.project, "metrics", command.metric_id)
        mutation = Mutation(request, name, request.request_id, request.validate_only)
        return await asyncio.to_thread(
            self._writer.write,
            mutation,
            lambda store: pb.CreateMetricResponse(
                metric=encode_metric(create_metric(command, store, self._clock.now()))
            ),
        )

    async def GetMetric(
        self, request: pb.GetMetricRequest, context: grpc.ServicerContext
    ) -> pb.GetMetricResponse:
        """Reads one metric, as it is now or as it was at a version."""
        project, version = current_caller().project, request.version
        metric_id = require_id(request.name, project, "metrics")

        def answer() -> pb.GetMetricResponse:
            with self._reader.read() as store:
                if not version:
                    metric = get_metric(project, metric_id, store)
                    return pb.GetMetricResponse(metric=encode_metric(metric))
                then = get_definition(project, metric_id, version, store)
            found = encode_version(project, metric_id, version, then)
            return pb.GetMetricResponse(metric=found)

        return await asyncio.to_thread(answer)

    async def ListMetrics(
        self, request: pb.ListMetricsRequest, context: grpc.ServicerContext
    ) -> pb.ListMetricsResponse:
        """Lists metrics by name."""
        command = decode_list(request, current_caller().project)

        def answer() -> pb.ListMetricsResponse:
            with self._reader.read() as store:
                page = list_metrics(command, store)
            return pb.ListMetricsResponse(
                metrics=[encode_metric(metric) for metric in page.metrics],
                next_page_token=page.next_page_token,
            )

        return await asyncio.to_thread(answer)

    async def ListMetricVersions(
        self, request: pb.ListMetricVersionsRequest, context: grpc.ServicerContext
    ) -> pb.ListMetricVersionsResponse:
        """Lists the versions of a metric, newest first."""
        command = decode_list_versions(request, current_caller().project)

        def answer() -> pb.ListMetricVersionsResponse:
            with self._reader.read() as store:
                page = list_metric_versions(command, store)
            return pb.ListMetricVersionsResponse(
                metrics=[
                    encode_version(command.project, command.metric_id, number, definition)
                    for number, definition in page.versions
                ],
                next_page_token=page.next_page_token,
            )

        return await asyncio.to_thread(answer)

    async def UpdateMetric(
        self, request: pb.UpdateMetricRequest, context: grpc.ServicerContext
    ) -> pb.UpdateMetricResponse:
        """Changes the fields that the mask names and raises the version."""
        name = request.metric.name
        target = decode_target(name, request.metric.etag, current_caller().project)
        patch = decode_patch(request.metric, list(request.update_mask.paths))
        mutation = Mutation(request, name, request.request_id, request.validate_only)
        return await asyncio.to_thread(
            self._writer.write,
            mutation,
            lambda store: pb.UpdateMetricResponse(
                metric=encode_metric(update_metric(target, patch, store, self._clock.now()))
            ),
        )

    async def ArchiveMetric(
        self, request: pb.ArchiveMetricRequest, context: grpc.ServicerContext
    ) -> pb.ArchiveMetricResponse:
        """Puts a metric away."""
        target = decode_target(request.name, request.etag, current_caller().project)
        mutation = Mutation(request, request.name, request.request_id, request.validate_only)
        return await asyncio.to_thread(
            self._writer.write,
            mutation,
            lambda store: pb.ArchiveMetricResponse(
                metric=encode_metric(archive_metric(target, store, self._clock.now()))
            ),
        )
