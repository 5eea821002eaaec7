"""The doors for clients of flagd: the same servicers with a credential, and on a port without."""

from flagd.evaluation.v1 import evaluation_pb2 as v1
from flagd.evaluation.v1 import evaluation_pb2_grpc as v1_grpc
from flagd.evaluation.v2 import evaluation_pb2 as v2
from flagd.evaluation.v2 import evaluation_pb2_grpc as v2_grpc
from flagd.sync.v1 import sync_pb2_grpc as sync_grpc

from services.assignment.api.flagd import evaluation, sync
from services.assignment.api.flagd.evaluation import EvaluationServicer
from services.assignment.api.flagd.selectors import AdmitSelected
from services.assignment.api.flagd.sync import Documents, SyncServicer
from services.assignment.application.served_flags import ServedFlags
from services.assignment.settings import Settings
from shared.clock import Clock
from shared.server.places import StreamPlaces
from shared.server.run import Servicer, SideDoor

_WAIT_S = 10.0


def flagd_servicers(
    settings: Settings, served: ServedFlags, clock: Clock
) -> tuple[list[Servicer], SideDoor | None]:
    """What the main port serves of flagd, and the port for clients without a credential, if any.

    Who needs no credential may take no place of those who have one.
    """
    documents = Documents(served)

    def servicers() -> list[Servicer]:
        places = StreamPlaces(
            settings.flagd_streams,
            "streams of flags",
            "close some, or raise TOUCHSTONE_FLAGD_STREAMS",
            _WAIT_S,
        )
        return _servicers(served, documents, clock, places)

    if not settings.flagd_address:
        return servicers(), None
    door = SideDoor(
        address=settings.flagd_address,
        setting="flagd_address",
        servicers=servicers(),
        admit=AdmitSelected(settings.flagd_flag_sets),
    )
    return servicers(), door


def _servicers(
    served: ServedFlags, documents: Documents, clock: Clock, places: StreamPlaces
) -> list[Servicer]:
    return [
        Servicer(
            evaluation.V1,
            EvaluationServicer(v1, served, clock, places),
            v1_grpc.add_ServiceServicer_to_server,
            evaluation.RULES,
        ),
        Servicer(
            evaluation.V2,
            EvaluationServicer(v2, served, clock, places),
            v2_grpc.add_ServiceServicer_to_server,
            evaluation.RULES,
        ),
        Servicer(
            sync.SYNC,
            SyncServicer(served, documents, places),
            sync_grpc.add_FlagSyncServiceServicer_to_server,
            sync.RULES,
        ),
    ]
