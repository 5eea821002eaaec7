"""Channels to the suite's services."""

from __future__ import annotations

from pathlib import Path

import grpc

from shared import errors
from shared.server.options import client_options
from shared.settings import ClientTls


def open_channel(address: str, tls: ClientTls | None = None) -> grpc.Channel:
    """A channel to one service; encrypted when `tls` says whom to trust."""
    if tls is None:
        return grpc.insecure_channel(address, options=client_options())
    return grpc.secure_channel(address, channel_credentials(tls), options=client_options())


def channel_credentials(tls: ClientTls) -> grpc.ChannelCredentials:
    """What a TLS client presents and trusts. Raises INVALID_ARGUMENT for a file it cannot read."""
    certificate, key = tls.certificate, tls.key
    if (certificate is None) != (key is None):
        raise errors.invalid(
            "TOUCHSTONE_TLS_CLIENT_CERTIFICATE and TOUCHSTONE_TLS_CLIENT_KEY",
            "only one of them",
            "both or none",
        )
    return grpc.ssl_channel_credentials(
        _read("TOUCHSTONE_TLS_CA", tls.ca),
        _read("TOUCHSTONE_TLS_CLIENT_KEY", key) if key else None,
        _read("TOUCHSTONE_TLS_CLIENT_CERTIFICATE", certificate) if certificate else None,
    )


def _read(setting: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise errors.invalid(setting, str(path), "a readable PEM file") from error
