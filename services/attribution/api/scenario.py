"""ScenarioService: decode, evaluate, encode."""

from dataclasses import dataclass, replace
from typing import Any

from touchstone.attribution.v1 import scenario_service_pb2 as pb
from touchstone.attribution.v1 import scenario_service_pb2_grpc as rpc

from services.attribution.application.scenario_measurements import (
    Comparisons,
    Measurements,
    measure_inputs,
)
from services.attribution.domain.scenario import evaluate
from services.attribution.wire.scenario import (
    checks_of,
    decode_measured,
    decode_scenario,
    encode_measurements,
    encode_scenario,
)
from shared.lake.analyses import Analyses
from shared.security.caller import current_caller


@dataclass(frozen=True, slots=True)
class ScenarioServicer(rpc.ScenarioServiceServicer):
    """Values scenes; what experiments measured is read in `analyses`, and nothing is stored."""

    comparisons: Comparisons
    analyses: Analyses

    async def ValueScenario(
        self, request: pb.ValueScenarioRequest, _context: Any
    ) -> pb.ValueScenarioResponse:
        """Values a scene."""
        inputs = decode_measured(request, current_caller().project)
        measured: Measurements = {}
        if inputs:
            measured = await self.analyses.run(lambda: measure_inputs(inputs, self.comparisons))
        scenario, stated = decode_scenario(request, measured)
        found = evaluate(scenario, stated)
        reply = encode_scenario(replace(found, checks=checks_of(request, measured) + found.checks))
        reply.measurements.extend(encode_measurements(request, measured))
        return reply
