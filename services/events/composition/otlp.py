"""Choose the parts of the OpenTelemetry door."""

from opentelemetry import metrics
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2_grpc

from services.events.adapters.instruments import count_records
from services.events.api.otlp import RULES, SERVICE, LogsServicer
from services.events.api.otlp_records import RecordRule
from services.events.composition.core import Core
from shared.server.http import HttpDoor, HttpRoute, ProtobufCodec
from shared.server.run import Servicer


def otlp_servicer(core: Core) -> Servicer:
    """LogsService."""
    servicer = LogsServicer(
        core.intake,
        RecordRule(core.settings.otlp_unit_type, core.settings.otlp_reasons),
        count_records(metrics.get_meter("touchstone")),
    )
    add = logs_service_pb2_grpc.add_LogsServiceServicer_to_server
    return Servicer(SERVICE, servicer, add, RULES)


def otlp_http(core: Core) -> HttpDoor | None:
    """The same over HTTP, where the settings want it."""
    address = core.settings.events_http_address
    if not address:
        return None
    route = HttpRoute("/v1/logs", f"/{SERVICE}/Export", ProtobufCodec())
    return HttpDoor(address, "events_http_address", [route])
