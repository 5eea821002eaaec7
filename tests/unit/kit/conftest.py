# ruff: noqa: N802  an RPC is VerbNoun
"""Servers whose handlers do what a test tells them to, behind the real guard."""

from __future__ import annotations

import io
import json
import logging
from contextlib import asynccontextmanager
from typing import Any

import pytest
from touchstone.assignment.v1 import assignment_service_pb2 as assignment_pb
from touchstone.assignment.v1 import assignment_service_pb2_grpc as assignment_rpc
from touchstone.attribution.v1 import attribution_service_pb2 as attribution_pb
from touchstone.attribution.v1 import attribution_service_pb2_grpc as attribution_rpc
from touchstone.common.v1 import access_service_pb2 as access_pb
from touchstone.common.v1 import access_service_pb2_grpc as access_rpc

from shared.server.run import Servicer
from shared.telemetry import JsonLines
from shared.testing.serving import application, serving


class Handlers(
    access_rpc.AccessServiceServicer,
    assignment_rpc.AssignmentServiceServicer,
    attribution_rpc.AttributionServiceServicer,
):
    """One RPC of each shape; `do` is what they run before they answer."""

    def __init__(self):
        self.seen = []
        self.do = self.nothing

    async def nothing(self):
        pass

    async def GetCaller(self, request, context):
        self.seen.append(request)
        await self.do()
        return access_pb.GetCallerResponse(project="answered")

    async def CreateKey(self, request, context):
        self.seen.append(request)
        return access_pb.CreateKeyResponse()

    async def Assign(self, request, context):
        self.seen.append(request)
        return assignment_pb.AssignResponse(config_version=7)

    async def StreamCredits(self, request, context):
        for number in range(3):
            yield attribution_pb.StreamCreditsResponse(
                summary=attribution_pb.CreditStreamSummary(credits=number)
            )
            await self.do()

    def servicers(self):
        adders: dict[str, Any] = {
            "touchstone.common.v1.AccessService": access_rpc.add_AccessServiceServicer_to_server,
            "touchstone.assignment.v1.AssignmentService": (
                assignment_rpc.add_AssignmentServiceServicer_to_server
            ),
            "touchstone.attribution.v1.AttributionService": (
                attribution_rpc.add_AttributionServiceServicer_to_server
            ),
        }
        return [Servicer(name, self, add) for name, add in adders.items()]


@pytest.fixture
def handlers():
    made: Any = Handlers  # RPCs that it has not are answered UNIMPLEMENTED
    return made()


@pytest.fixture
def serve(handlers, tmp_path):
    """Serves the handlers; keyword arguments are settings."""

    @asynccontextmanager
    async def serve(platform=None, **settings):
        found = application(tmp_path / "data", handlers.servicers(), platform, **settings)
        async with serving(found) as served:
            yield served

    return serve


class LogLines:
    """What the process would have written to standard error."""

    def __init__(self):
        self.stream = io.StringIO()

    @property
    def text(self):
        return self.stream.getvalue()

    def of(self, logger):
        lines = [json.loads(line) for line in self.text.splitlines()]
        return [line for line in lines if line["logger"] == logger]


@pytest.fixture
def log():
    lines = LogLines()
    handler = logging.StreamHandler(lines.stream)
    handler.setFormatter(JsonLines("test"))
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel("INFO")
    yield lines
    root.removeHandler(handler)
    root.setLevel(level)
