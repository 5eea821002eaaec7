"""The four services as programs of the supervisor, on one data folder."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.cli.settings import CliSettings
from services.cli.supervisor import Program
from shared.errors import DomainError, failed_precondition
from shared.server.channel import open_channel
from shared.settings import MORE_ADDRESSES, SERVICES, ClientTls

_PROBE_S = 2.0


def programs(settings: CliSettings) -> list[Program]:
    """The four services, which get these settings through the environment."""
    settings.logs_path.mkdir(mode=0o700, parents=True, exist_ok=True)
    shared = {
        # Analyses run beside each other: more threads for one product of matrices only wait for
        # processors that others use.
        "OPENBLAS_NUM_THREADS": os.environ.get("OPENBLAS_NUM_THREADS", "1"),
        # A key for calls is nothing that a service should hold.
        "TOUCHSTONE_API_KEY": "",
        "TOUCHSTONE_DATA": str(settings.data.absolute()),
        "TOUCHSTONE_LAKE": str(settings.lake_path.absolute()),
        "TOUCHSTONE_DATABASE_URL": settings.state_url,
        **{f"TOUCHSTONE_{name.upper()}_ADDRESS": settings.address(name) for name in SERVICES},
        **{f"TOUCHSTONE_{name.upper()}": getattr(settings, name) for name in MORE_ADDRESSES},
    }
    return [
        Program(
            name,
            (sys.executable, "-m", "services.cli.child", f"services.{name}"),
            settings.logs_path / f"{name}.log",
            shared,
        )
        for name in SERVICES
    ]


@contextmanager
def only_supervisor(data: Path) -> Iterator[None]:
    """Holds the data folder for this process. Raises FAILED_PRECONDITION when another one does.

    The system gives the lock back when the process ends, however it ends.
    """
    path = data / "supervisor.lock"
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.read(handle, 32).decode(errors="replace").strip() or "unknown"
            raise failed_precondition(
                "WRONG_STATE",
                f"another `touchstone up` (process {holder}) runs on the data folder {data}; "
                "stop it first, or choose another folder with --data",
            ) from error
        os.ftruncate(handle, 0)
        os.write(handle, f"{os.getpid()}\n".encode())
        yield
    finally:
        os.close(handle)


def require_free_addresses(settings: CliSettings) -> None:
    """Raises FAILED_PRECONDITION that names the first address that somebody else listens on."""
    addresses: dict[str, str] = {name: settings.address(name) for name in SERVICES}
    for setting in MORE_ADDRESSES:
        if address := getattr(settings, setting):
            addresses[setting.removesuffix("_address")] = address
    for name, address in addresses.items():
        host, _, port = address.rpartition(":")
        host = host.strip("[]")
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, int(port)))
            except OSError as error:
                # Any other trouble with the address is the service's own to tell.
                if error.errno in (errno.EADDRINUSE, errno.EACCES):
                    raise _taken(name, address, error) from error


def free_addresses(count: int) -> list[str]:
    """Loopback addresses whose ports nobody listens on at this moment, all different."""
    probes = [socket.socket(socket.AF_INET, socket.SOCK_STREAM) for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [f"127.0.0.1:{probe.getsockname()[1]}" for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def is_serving(address: str, tls: ClientTls | None = None, timeout_s: float = _PROBE_S) -> bool:
    """Whether the service at the address says that it can keep its promise now."""
    return health(address, tls, timeout_s) == "SERVING"


def is_answering(address: str, tls: ClientTls | None = None, timeout_s: float = _PROBE_S) -> bool:
    """Whether the service at the address says anything of its health, good or bad."""
    answered = health_pb2.HealthCheckResponse.ServingStatus.keys()
    return health(address, tls, timeout_s) in answered


def health(address: str, tls: ClientTls | None = None, timeout_s: float = _PROBE_S) -> str:
    """The name of the health status at the address, or of the gRPC code of the failed call."""
    with open_channel(address, tls) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        try:
            reply = stub.Check(health_pb2.HealthCheckRequest(), timeout=timeout_s)
        except grpc.RpcError as error:
            return str(error.code().name)
        return str(health_pb2.HealthCheckResponse.ServingStatus.Name(reply.status))


def _taken(name: str, address: str, error: OSError) -> DomainError:
    return failed_precondition(
        "WRONG_STATE",
        f"{name.partition('_')[0]} cannot listen on {address} ({error.strerror}); end the program "
        f"that uses the port, or set TOUCHSTONE_{name.upper()}_ADDRESS to a free one",
    )
