"""A running results service with a played assignment service, tables of its own and clients."""

import asyncio
import datetime as dt
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from touchstone.assignment.v1 import experiment_pb2, experiment_service_pb2
from touchstone.assignment.v1 import experiment_service_pb2_grpc as experiment_rpc
from touchstone.common.v1.unit_pb2 import UnitId
from touchstone.results.v1 import (
    analysis_plan_service_pb2,
    analysis_plan_service_pb2_grpc,
    bandit_service_pb2,
    bandit_service_pb2_grpc,
    evaluation_service_pb2,
    evaluation_service_pb2_grpc,
    export_service_pb2,
    export_service_pb2_grpc,
    metric_service_pb2,
    metric_service_pb2_grpc,
    planning_service_pb2,
    planning_service_pb2_grpc,
    results_pb2,
    results_service_pb2,
    results_service_pb2_grpc,
)

from services.results.composition import compose
from services.results.settings import Settings
from shared.errors import DomainError
from shared.ids import RandomIds
from shared.lake.rows import table_of
from shared.lake.writer import LakeWriter
from shared.security.caller import Role
from shared.security.keys import SqlKeyStore, make_key
from shared.server.run import Application, start_server
from shared.server.status import from_rpc_error
from shared.testing.fakes import FixedClock
from shared.testing.ports import free_port

NOW = dt.datetime(2026, 2, 1, tzinfo=dt.UTC)
START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
PROJECT = "projects/demo"
EXPERIMENT = f"{PROJECT}/experiments/checkout"
ARMS = {"control": 400, "green": 410, "blue": 390}


class PlayedAssignment(experiment_rpc.ExperimentServiceServicer):
    """Knows one experiment and `more` by name, and remembers what callers presented."""

    def __init__(self) -> None:
        self.presented: list[str] = []
        self.hold: asyncio.Event | None = None
        self.forced: list[str] = []
        self.weighed: list[experiment_service_pb2.SetVariantWeightsRequest] = []
        self.more: dict[str, experiment_pb2.Experiment] = {}
        self.experiment = experiment_pb2.Experiment(
            unit_type="user",
            variants=[
                experiment_pb2.Variant(key="green", weight=3334),
                experiment_pb2.Variant(key="control", weight=3333),
                experiment_pb2.Variant(key="blue", weight=3333),
            ],
            control_variant="control",
            config_version=17,
        )

    async def GetExperiment(self, request: Any, context: Any) -> Any:  # noqa: N802  the contract's
        self.presented.append(dict(context.invocation_metadata()).get("authorization", ""))
        if self.hold:
            await self.hold.wait()
        every = {EXPERIMENT: self.experiment} | self.more
        if request.name not in every:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such experiment")
        return experiment_service_pb2.GetExperimentResponse(experiment=every[request.name])

    async def ListExperiments(self, request: Any, _context: Any) -> Any:  # noqa: N802  the same
        named = {EXPERIMENT: self.experiment} | self.more
        running = [one for one in named.values() if one.state in request.states]
        return experiment_service_pb2.ListExperimentsResponse(experiments=running)

    async def SetVariantWeights(self, request: Any, context: Any) -> Any:  # noqa: N802  the same
        self.presented.append(dict(context.invocation_metadata()).get("authorization", ""))
        if request.etag != self.experiment.etag:
            await context.abort(grpc.StatusCode.ABORTED, "it has changed")
        self.weighed.append(request)
        return experiment_service_pb2.SetVariantWeightsResponse(experiment=self.experiment)

    async def ListForcedVariants(self, request: Any, _context: Any) -> Any:  # noqa: N802  the same
        start = int(request.page_token or 0)
        page = self.forced[start : start + 2]
        token = str(start + 2) if self.forced[start + 2 :] else ""
        return experiment_service_pb2.ListForcedVariantsResponse(
            forced_variants=[
                experiment_service_pb2.ForcedVariant(unit=UnitId(type="user", id=unit))
                for unit in page
            ],
            next_page_token=token,
        )


def key_of(application: Application, project: str, *roles: Role) -> str:
    platform = application.platform
    new = make_key(RandomIds(), project, "test", frozenset(roles), platform.clock.now())
    with platform.database.begin() as connection:
        store = SqlKeyStore(connection)
        if not store.has_project(project):
            store.add_project(project, platform.clock.now())
        store.add(new.key)
    return new.text


class Client:
    """Calls RPCs by name with one key."""

    modules = (
        metric_service_pb2,
        results_service_pb2,
        analysis_plan_service_pb2,
        bandit_service_pb2,
        evaluation_service_pb2,
        export_service_pb2,
        planning_service_pb2,
    )

    def __init__(self, channel: grpc.aio.Channel, key: str) -> None:
        self._stubs = (
            metric_service_pb2_grpc.MetricServiceStub(channel),
            results_service_pb2_grpc.ResultsServiceStub(channel),
            analysis_plan_service_pb2_grpc.AnalysisPlanServiceStub(channel),
            bandit_service_pb2_grpc.BanditServiceStub(channel),
            evaluation_service_pb2_grpc.EvaluationServiceStub(channel),
            export_service_pb2_grpc.ExportServiceStub(channel),
            planning_service_pb2_grpc.PlanningServiceStub(channel),
        )
        self.authorization = f"Bearer {key}"

    async def call(self, method: str, /, **fields: Any) -> Any:
        for module, stub in zip(self.modules, self._stubs, strict=True):
            if hasattr(stub, method):
                request = getattr(module, f"{method}Request")(**fields)
                metadata = (("authorization", self.authorization),)
                reply = getattr(stub, method)(request, metadata=metadata, timeout=20)
                if isinstance(reply, grpc.aio.UnaryStreamCall):
                    return [part async for part in reply]
                return await reply
        raise LookupError(method)

    def watch(self, **fields: Any) -> Any:
        """The stream of results; whoever opens it cancels it."""
        request = results_service_pb2.WatchResultsRequest(**fields)
        metadata = (("authorization", self.authorization),)
        return self._stubs[1].WatchResults(request, metadata=metadata)

    async def refused(self, method: str, /, **fields: Any) -> DomainError:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await self.call(method, **fields)
        return from_rpc_error(caught.value)

    async def define(self, metric_id: str, metric: Any, **fields: Any) -> Any:
        reply = await self.call(
            "CreateMetric", parent=PROJECT, metric_id=metric_id, metric=metric, **fields
        )
        return reply.metric

    async def results(self, **fields: Any) -> results_pb2.Results:
        fields = {"experiment": f"{PROJECT}/experiments/checkout"} | fields
        found: results_pb2.Results = (await self.call("GetResults", **fields)).results
        return found


class World:
    """A running results service with its surroundings."""

    def __init__(self, lake: Path, played: PlayedAssignment, clients: dict[str, Client]) -> None:
        self.lake, self.played = lake, played
        self.owner, self.viewer = clients["owner"], clients["viewer"]
        self.other, self.assigner = clients["other"], clients["assigner"]

    def write(self, tables: dict[str, list[dict[str, Any]]], position: int = 1) -> str:
        writer = LakeWriter(self.lake, "journal", FixedClock(NOW))
        rows = {
            name: table_of(name, [common(row) | {"position": position} for row in of])
            for name, of in tables.items()
        }
        return writer.append(rows, position).token()


def common(row: dict[str, Any]) -> dict[str, Any]:
    return {"event_id": repr(row), "project": "demo", "event_time": START} | row


@asynccontextmanager
async def open_world(tmp_path: Path) -> AsyncIterator[World]:
    played, assignment = PlayedAssignment(), grpc.aio.server()  # type: ignore[abstract]  # plays one
    experiment_rpc.add_ExperimentServiceServicer_to_server(played, assignment)
    settings = Settings(
        data=tmp_path,
        results_at_once=1,
        results_in_line=2,
        results_address=f"127.0.0.1:{free_port()}",
        assignment_address=f"127.0.0.1:{assignment.add_insecure_port('127.0.0.1:0')}",
    )
    await assignment.start()
    application = compose(settings)
    running = await start_server(application)
    async with grpc.aio.insecure_channel(settings.results_address) as channel:
        roles = {
            "owner": ("demo", Role.EXPERIMENTER),
            "viewer": ("demo", Role.VIEWER),
            "other": ("other", Role.EXPERIMENTER),
            "assigner": ("demo", Role.ASSIGN),
        }
        clients = {
            name: Client(channel, key_of(application, project, role))
            for name, (project, role) in roles.items()
        }
        yield World(tmp_path / "lake", played, clients)
    await running.drain()
    await assignment.stop(None)


def events(values: dict[str, np.ndarray]) -> dict[str, list[dict[str, Any]]]:
    """Exposures of every unit, a visit and a purchase of those that spend, by variant."""
    exposures: list[dict[str, Any]] = []
    conversions: list[dict[str, Any]] = []
    for variant, amounts in values.items():
        for number, amount in enumerate(amounts):
            unit = {"unit_id": f"{variant}-{number}"}
            exposures.append(unit | {"experiment": "checkout", "variant": variant})
            if amount:
                conversions.append(unit | {"event_name": "visit"})
                conversions.append(unit | {"event_name": "purchase", "value": float(amount)})
    return {"exposures": exposures, "conversions": conversions}
