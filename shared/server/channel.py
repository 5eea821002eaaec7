"""Channels to the suite's services."""

from __future__ import annotations

from pathlib import Path

import grpc

from shared import errors
from shared.server.options import client_options


def open_channel(address: str, tls_ca: Path | None = None) -> grpc.Channel:
    """A blocking channel; encrypted when the authorities to trust are given."""
    if tls_ca is None:
        return grpc.insecure_channel(address, options=client_options())
    return grpc.secure_channel(address, _credentials(tls_ca), options=client_options())


def open_async_channel(address: str, tls_ca: Path | None = None) -> grpc.aio.Channel:
    """A channel for asyncio; encrypted when the authorities to trust are given."""
    if tls_ca is None:
        return grpc.aio.insecure_channel(address, options=client_options())
    return grpc.aio.secure_channel(address, _credentials(tls_ca), options=client_options())


def _credentials(tls_ca: Path) -> grpc.ChannelCredentials:
    try:
        return grpc.ssl_channel_credentials(tls_ca.read_bytes())
    except OSError as error:
        raise errors.invalid("tls_ca", str(tls_ca), "a readable PEM file") from error
