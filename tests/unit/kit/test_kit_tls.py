"""TLS and mTLS with certificates made here, and their rotation without a restart."""

import shutil
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID
from touchstone.common.v1 import access_service_pb2 as pb
from touchstone.common.v1 import access_service_pb2_grpc as rpc

from shared.errors import DomainError
from shared.server.channel import channel_credentials
from shared.server.run import start_server
from shared.settings import ClientTls
from shared.testing.serving import application
from tests.unit.kit.certificates import DAY, Authority, Identity, install, tls


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path, "authority")


@pytest.fixture
def installed(tmp_path, authority):
    """The files that the server is told of; `install` rotates what is in them."""
    folder = tmp_path / "installed"
    folder.mkdir()
    files = Identity(folder / "server.pem", folder / "server.key")
    install(authority.issue("first"), files)
    return files


async def answer(channel, metadata):
    stub = rpc.AccessServiceStub(channel)
    reply = await stub.GetCaller(pb.GetCallerRequest(), metadata=metadata, timeout=5)
    return reply.project


async def refused(channel, metadata):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await answer(channel, metadata)
    return caught.value.code() is grpc.StatusCode.UNAVAILABLE


def common_name(address):
    """Of the certificate that a new connection is shown."""
    import ssl

    host, _, port = address.rpartition(":")
    pem = ssl.get_server_certificate((host, int(port)), timeout=5)
    subject = x509.load_pem_x509_certificate(pem.encode()).subject
    return subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value


async def shown(address):
    import asyncio

    return await asyncio.to_thread(common_name, address)


def trusting(address, authority):
    """A channel that trusts the authority, as the suite's own clients do."""
    return grpc.aio.secure_channel(address, channel_credentials(ClientTls(authority.root)))


async def test_encrypted_call_passes_and_others_do_not(serve, installed, authority, tmp_path):
    stranger = Authority(tmp_path, "stranger")
    async with serve(**tls(installed)) as served:
        address, owner = served.running.address, served.owner
        async with trusting(address, authority) as channel:
            assert await answer(channel, owner) == "answered"
        async with grpc.aio.secure_channel(
            address, grpc.ssl_channel_credentials(stranger.root.read_bytes())
        ) as channel:
            assert await refused(channel, owner)
        assert await refused(served.channel, owner)


async def test_client_certificate_is_demanded_when_its_authority_is_set(
    serve, installed, authority, tmp_path
):
    clients = Authority(tmp_path, "clients")
    good, bad = clients.issue("shop"), authority.issue("intruder")
    expired = clients.issue("old", start=-3 * DAY, end=-DAY)
    async with serve(**tls(installed, tls_client_ca=clients.root)) as served:
        for identity, admitted in ((good, True), (bad, False), (expired, False), (None, False)):
            files = (identity.certificate, identity.key) if identity else ()
            credentials = channel_credentials(ClientTls(authority.root, *files))
            async with grpc.aio.secure_channel(served.running.address, credentials) as channel:
                if admitted:
                    assert await answer(channel, served.owner) == "answered"
                else:
                    assert await refused(channel, served.owner)


async def test_rotated_certificate_is_shown_to_new_connections_and_old_ones_live(
    serve, installed, authority
):
    async with serve(**tls(installed)) as served:
        address = served.running.address
        async with trusting(address, authority) as old:
            assert await answer(old, served.owner) == "answered"
            assert await shown(address) == "first"
            install(authority.issue("second"), installed)
            assert await shown(address) == "second"
            assert await answer(old, served.owner) == "answered"


async def test_rotation_that_fails_keeps_the_certificate_and_is_logged(
    serve, installed, authority, log
):
    async with serve(**tls(installed)) as served:
        address = served.running.address
        installed.key.unlink()
        assert await shown(address) == "first"
        assert "certificates not reloaded" in log.text
        install(authority.issue("second"), installed)
        assert await shown(address) == "second"


async def test_rotation_seen_half_way_keeps_the_certificate(serve, installed, authority):
    """The key is there already, its certificate is not: the pair does not fit."""
    second = authority.issue("second")
    async with serve(**tls(installed)) as served:
        address = served.running.address
        shutil.copy(second.key, installed.key)
        assert await shown(address) == "first"
        installed.key.write_bytes(b"not a key")
        assert await shown(address) == "first"
        install(second, installed)
        assert await shown(address) == "second"


async def test_expired_server_certificate_is_refused_by_clients(serve, installed, authority):
    install(authority.issue("late", start=-3 * DAY, end=-DAY), installed)
    async with (
        serve(**tls(installed)) as served,
        trusting(served.running.address, authority) as channel,
    ):
        assert await refused(channel, served.owner)


@pytest.mark.parametrize("broken", ["key", "certificate"])
async def test_files_that_are_no_certificate_stop_the_start(tmp_path, handlers, installed, broken):
    getattr(installed, broken).write_bytes(b"not a PEM file")
    found = application(tmp_path / "data", handlers.servicers(), **tls(installed))
    with pytest.raises(DomainError, match=r"TLS_CERTIFICATE and TOUCHSTONE_TLS_KEY.*server\.pem"):
        await start_server(found)
    found.platform.database.close()


def test_client_certificate_without_its_key_is_named(authority):
    identity = authority.issue("results")
    for pair in ((identity.certificate, None), (None, identity.key)):
        with pytest.raises(DomainError, match="both or none"):
            channel_credentials(ClientTls(authority.root, *pair))


def test_file_that_a_client_cannot_read_is_named_with_its_setting(authority):
    # Short, as messages cut long values.
    missing, identity = Path("missing.pem"), authority.issue("results")
    for files, setting in (
        ((missing, None, None), "TOUCHSTONE_TLS_CA"),
        ((authority.root, missing, identity.key), "TOUCHSTONE_TLS_CLIENT_CERTIFICATE"),
        ((authority.root, identity.certificate, missing), "TOUCHSTONE_TLS_CLIENT_KEY"),
    ):
        with pytest.raises(DomainError) as caught:
            channel_credentials(ClientTls(*files))
        assert setting in caught.value.message
        assert "missing.pem" in caught.value.message
