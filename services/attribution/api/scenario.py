"""ScenarioService: decode, evaluate, encode."""

from typing import Any

from touchstone.attribution.v1 import scenario_service_pb2 as pb
from touchstone.attribution.v1 import scenario_service_pb2_grpc as rpc

from services.attribution.domain.scenario import evaluate
from services.attribution.wire.scenario import decode_scenario, encode_scenario


class ScenarioServicer(rpc.ScenarioServiceServicer):
    """Values scenes; it reads and stores nothing."""

    async def ValueScenario(
        self, request: pb.ValueScenarioRequest, _context: Any
    ) -> pb.ValueScenarioResponse:
        """Values a scene."""
        scenario, stated = decode_scenario(request)
        return encode_scenario(evaluate(scenario, stated))
