"""The access and audit services as part of a server: the control plane of a project hosts them."""

from __future__ import annotations

from touchstone.common.v1 import access_service_pb2_grpc

from shared.security.servicers import AccessServicer, AuditServicer
from shared.server.run import Platform, Servicer
from shared.state.mutations import Mutations


def access_servicers(platform: Platform, mutations: Mutations) -> list[Servicer]:
    """AccessService and AuditService over the platform's state."""
    return [
        Servicer(
            "touchstone.common.v1.AccessService",
            AccessServicer(platform.database, mutations, platform.clock, platform.ids),
            access_service_pb2_grpc.add_AccessServiceServicer_to_server,
        ),
        Servicer(
            "touchstone.common.v1.AuditService",
            AuditServicer(platform.database, platform.audit_keys),
            access_service_pb2_grpc.add_AuditServiceServicer_to_server,
        ),
    ]
