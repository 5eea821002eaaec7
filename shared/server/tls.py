"""The port of a server: plaintext on loopback, TLS or mTLS elsewhere, certificates reloaded when
their files change.
"""

from __future__ import annotations

import ipaddress
import logging
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import grpc

from shared import errors
from shared.settings import ServiceSettings

_LOG = logging.getLogger("touchstone.tls")
Loaded = TypeVar("Loaded")


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """A server's certificate chain with its key, and the authorities of its clients (PEM)."""

    certificate: Path
    key: Path
    client_ca: Path | None

    def stamps(self) -> list[tuple[int, int, int]]:
        """What changes whenever a file does."""
        files = (self.certificate, self.key, *([self.client_ca] if self.client_ca else []))
        return [(s.st_mtime_ns, s.st_ino, s.st_size) for s in (file.stat() for file in files)]


class Certificates(Generic[Loaded]):
    """Certificates as they lie on disk, loaded again when a file changes."""

    def __init__(self, files: CertificateFiles, load: Callable[[CertificateFiles], Loaded]) -> None:
        self._files = files
        self._load = load
        self._stamps = files.stamps()
        self.current = load(files)

    def changed(self) -> Loaded | None:
        """The new certificates when a file has changed, else None.

        Called in every handshake. Files that cannot be read, as in the middle of a rotation, leave
        the certificates as they were.
        """
        try:
            stamps = self._files.stamps()
            if stamps == self._stamps:
                return None
            loaded = self._load(self._files)
        except OSError:
            _LOG.exception("certificates not reloaded")
            return None
        self._stamps, self.current = stamps, loaded
        _LOG.info("certificates reloaded")
        return loaded


def add_port(server: grpc.aio.Server, settings: ServiceSettings, address: str, setting: str) -> str:
    """Listens at the address, on the interface that the settings say, and returns where that is.

    `setting` names the setting of the address. Raises FAILED_PRECONDITION when the port is taken,
    when certificates cannot be read, and when plaintext would leave the machine.
    """
    host, port = split_address(settings, address)
    address = f"{host}:{port}"
    credentials = _credentials(settings, host)
    try:
        if credentials is None:
            server.add_insecure_port(address)
        else:
            server.add_secure_port(address, credentials)
    except RuntimeError as error:
        raise port_taken(address, setting) from error
    return address


def split_address(settings: ServiceSettings, address: str) -> tuple[str, str]:
    """The interface, as it is written in an address, and the port to listen on."""
    host, _, port = address.rpartition(":")
    return settings.listen_host or host, port


def port_taken(address: str, setting: str) -> errors.DomainError:
    """The error of a port that somebody else has."""
    return errors.failed_precondition(
        "WRONG_STATE",
        f"cannot listen on {address}: the port is in use or not ours to take; stop the other "
        f"program, or set TOUCHSTONE_{setting.upper()} to a free one",
    )


def ssl_context(settings: ServiceSettings, host: str) -> ssl.SSLContext | None:
    """The TLS of a listener other than gRPC, by the same settings; None for plaintext."""
    certificates = _certificates(settings, host, _load_context)
    if certificates is None:
        return None

    def choose(connection: Any, _name: str | None, _context: ssl.SSLContext) -> None:
        certificates.changed()
        connection.context = certificates.current

    listening = certificates.current
    # Every handshake comes by here, also one that names no server.
    listening.sni_callback = choose
    return listening


def _credentials(settings: ServiceSettings, host: str) -> grpc.ServerCredentials | None:
    certificates = _certificates(settings, host, _load_configuration)
    if certificates is None:
        return None
    return grpc.dynamic_ssl_server_credentials(
        certificates.current,
        certificates.changed,  # type: ignore[arg-type]  # None, for no change, is allowed
        require_client_authentication=settings.tls_client_ca is not None,
    )


def _certificates(
    settings: ServiceSettings, host: str, load: Callable[[CertificateFiles], Loaded]
) -> Certificates[Loaded] | None:
    certificate, key = settings.tls_certificate, settings.tls_key
    if certificate is None and key is None:
        _require_plaintext_allowed(settings, host)
        return None
    if certificate is None or key is None:
        raise errors.invalid(
            "TOUCHSTONE_TLS_CERTIFICATE and TOUCHSTONE_TLS_KEY", "only one of them", "both or none"
        )
    try:
        return Certificates(CertificateFiles(certificate, key, settings.tls_client_ca), load)
    except OSError as error:
        raise errors.failed_precondition(
            "WRONG_STATE",
            "TOUCHSTONE_TLS_CERTIFICATE and TOUCHSTONE_TLS_KEY cannot be used: "
            f"{error.filename or f'{certificate} and {key}'}: {error.strerror}; name a readable "
            "certificate chain (PEM) and its private key without a password",
        ) from error


def _require_plaintext_allowed(settings: ServiceSettings, host: str) -> None:
    if settings.tls_client_ca is not None:
        raise errors.invalid(
            "TOUCHSTONE_TLS_CLIENT_CA",
            str(settings.tls_client_ca),
            "only together with TOUCHSTONE_TLS_CERTIFICATE and TOUCHSTONE_TLS_KEY",
        )
    if not _loopback(host) and not settings.allow_plaintext:
        raise errors.invalid(
            "TOUCHSTONE_LISTEN_HOST",
            host,
            "a loopback interface without TLS; set TOUCHSTONE_TLS_CERTIFICATE and "
            "TOUCHSTONE_TLS_KEY, or TOUCHSTONE_ALLOW_PLAINTEXT=true behind a proxy that does",
        )


def _load_context(files: CertificateFiles) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(files.certificate, files.key, password=lambda: "")
    if files.client_ca is not None:
        context.load_verify_locations(files.client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _load_configuration(files: CertificateFiles) -> grpc.ServerCertificateConfiguration:
    # gRPC does not say what is wrong with a pair, and finds out late.
    _load_context(CertificateFiles(files.certificate, files.key, None))
    pair = (files.key.read_bytes(), files.certificate.read_bytes())
    roots = files.client_ca.read_bytes() if files.client_ca else None
    return grpc.ssl_server_certificate_configuration([pair], roots)


def _loopback(host: str) -> bool:
    name = host.strip("[]")
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
