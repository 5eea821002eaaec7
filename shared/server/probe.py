"""Asks a service on this machine whether it can keep its promise now, as a container's health
check does: status 0 when it can, else 1 and one line on standard error.

    python -m shared.server.probe SERVICE

It reads the same settings as the service, so it finds the port and speaks TLS when the service
does. Under mTLS it presents the service's own certificate.
"""

from __future__ import annotations

import ipaddress
import sys
from typing import get_args

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from pydantic import ValidationError

from shared import errors
from shared.errors import DomainError
from shared.server.channel import open_channel
from shared.settings import ServiceName, ServiceSettings, settings_error

_TIMEOUT_S = 3.0


def main(arguments: list[str]) -> int:
    """Probes the service that the arguments name and returns the exit status."""
    try:
        try:
            service = _service(arguments)
            status = probe(ServiceSettings(), service)
        except ValidationError as error:
            raise settings_error(error) from error
    except DomainError as error:
        return _complain(error.message)
    return 0 if status == "SERVING" else _complain(f"{service} is {status}")


def probe(settings: ServiceSettings, service: ServiceName, timeout_s: float = _TIMEOUT_S) -> str:
    """The health status of the service, or the gRPC code of the call that failed.

    Raises INVALID_ARGUMENT when a certificate of the settings cannot be read.
    """
    with _channel(settings, service) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        try:
            reply = stub.Check(health_pb2.HealthCheckRequest(), timeout=timeout_s)
        except grpc.RpcError as error:
            return str(error.code().name)
        return str(health_pb2.HealthCheckResponse.ServingStatus.Name(reply.status))


def local_address(settings: ServiceSettings, service: ServiceName) -> str:
    """Where the service is reached from its own machine: an interface that stands for all of
    them is no address to call.
    """
    host, _, port = settings.address(service).rpartition(":")
    host = settings.listen_host or host
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return f"{host}:{port}"
    if address.is_unspecified:
        return f"127.0.0.1:{port}" if address.version == 4 else f"[::1]:{port}"
    return f"{host}:{port}"


def _channel(settings: ServiceSettings, service: ServiceName) -> grpc.Channel:
    address = local_address(settings, service)
    certificate, key = settings.tls_certificate, settings.tls_key
    if certificate is None or key is None:
        return open_channel(address)
    try:
        chain = certificate.read_bytes()
        # The certificate is the one that lies beside this program: it vouches for itself.
        credentials = grpc.ssl_channel_credentials(chain, key.read_bytes(), chain)
    except OSError as error:
        raise errors.invalid("TOUCHSTONE_TLS_CERTIFICATE", str(certificate), "readable") from error
    name = _certified_name(settings.address(service))
    return grpc.secure_channel(address, credentials, [("grpc.ssl_target_name_override", name)])


def _certified_name(address: str) -> str:
    # Clients call the service by the host of its address, which its certificate must name.
    return address.rpartition(":")[0].strip("[]")


def _service(arguments: list[str]) -> ServiceName:
    names: tuple[ServiceName, ...] = get_args(ServiceName)
    for name in names:
        if arguments == [name]:
            return name
    raise errors.invalid("the service to probe", " ".join(arguments), f"one of {', '.join(names)}")


def _complain(message: str) -> int:
    sys.stderr.write(f"error: {message}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
