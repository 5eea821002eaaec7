"""The port for clients of flagd without a credential is as private as the main one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from flagd.evaluation.v2 import evaluation_pb2, evaluation_pb2_grpc
from flagd.sync.v1 import sync_pb2, sync_pb2_grpc

from services.assignment.adapters.sql import migrate_assignment
from services.assignment.composition import assemble
from services.assignment.settings import Settings
from shared.server.channel import channel_credentials
from shared.server.platform import open_platform
from shared.settings import ClientTls
from shared.testing.ports import free_port
from shared.testing.serving import serving
from tests.unit.kit.certificates import Authority, Identity, install, tls


@pytest.fixture
def authority(tmp_path: Path) -> Any:
    return Authority(tmp_path, "authority")


@pytest.fixture
def installed(tmp_path: Path, authority: Any) -> Identity:
    folder = tmp_path / "installed"
    folder.mkdir()
    files = Identity(folder / "server.pem", folder / "server.key")
    install(authority.issue("first"), files)
    return files


@asynccontextmanager
async def side_door(folder: Path, files: Identity, **more: Any) -> AsyncIterator[str]:
    """The address of the port, of a service that is encrypted."""
    encrypted: dict[str, Any] = tls(files, **more)
    settings = Settings(
        data=folder / "data",
        assignment_address=f"127.0.0.1:{free_port()}",
        assignment_http_address="",
        flagd_address=f"127.0.0.1:{free_port()}",
        flagd_projects="demo",
        **encrypted,
    )
    platform = open_platform(settings)
    migrate_assignment(platform.database)
    async with serving(assemble(settings, platform)) as served:
        assert served.running.side_address is not None
        yield served.running.side_address


async def asked(channel: grpc.aio.Channel) -> grpc.StatusCode:
    """How an evaluation and a stream of documents go: both alike."""
    stub = evaluation_pb2_grpc.ServiceStub(channel)
    request = evaluation_pb2.ResolveStringRequest(flag_key="nothing")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.ResolveString(request, timeout=5)
    code: grpc.StatusCode = caught.value.code()
    sync = sync_pb2_grpc.FlagSyncServiceStub(channel)
    if code is grpc.StatusCode.UNAVAILABLE:
        with pytest.raises(grpc.aio.AioRpcError):
            await sync.FetchAllFlags(sync_pb2.FetchAllFlagsRequest(), timeout=5)
    else:
        stream: Any = sync.SyncFlags(sync_pb2.SyncFlagsRequest())
        assert '"flags"' in (await stream.read()).flag_configuration
        stream.cancel()
    return code


async def test_only_who_trusts_its_certificate_gets_flags(
    tmp_path: Path, installed: Identity, authority: Any
) -> None:
    stranger = Authority(tmp_path, "stranger")
    async with side_door(tmp_path, installed) as address:
        for credentials, code in (
            (channel_credentials(ClientTls(authority.root)), grpc.StatusCode.NOT_FOUND),
            (channel_credentials(ClientTls(stranger.root)), grpc.StatusCode.UNAVAILABLE),
        ):
            async with grpc.aio.secure_channel(address, credentials) as channel:
                assert await asked(channel) is code
        async with grpc.aio.insecure_channel(address) as channel:
            assert await asked(channel) is grpc.StatusCode.UNAVAILABLE


async def test_where_clients_show_certificates_its_clients_do_as_well(
    tmp_path: Path, installed: Identity, authority: Any
) -> None:
    clients = Authority(tmp_path, "clients")
    good = clients.issue("shop")
    bad = authority.issue("intruder")
    async with side_door(tmp_path, installed, tls_client_ca=clients.root) as address:
        for identity, code in (
            (good, grpc.StatusCode.NOT_FOUND),
            (bad, grpc.StatusCode.UNAVAILABLE),
            (None, grpc.StatusCode.UNAVAILABLE),
        ):
            files = (identity.certificate, identity.key) if identity else ()
            credentials = channel_credentials(ClientTls(authority.root, *files))
            async with grpc.aio.secure_channel(address, credentials) as channel:
                assert await asked(channel) is code
