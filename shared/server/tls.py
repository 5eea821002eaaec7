"""The port of a server: plaintext on loopback, TLS or mTLS elsewhere, certificates reloaded when
their files change.
"""

from __future__ import annotations

import ipaddress
import logging
import ssl
from pathlib import Path

import grpc

from shared import errors
from shared.settings import ServiceSettings

_LOG = logging.getLogger("touchstone.tls")


class CertificateFiles:
    """Certificates as they lie on disk, read again when a file changes."""

    def __init__(self, certificate: Path, key: Path, client_ca: Path | None) -> None:
        self._files = [certificate, key, *([client_ca] if client_ca else [])]
        self._client_ca = client_ca
        self._stamp = self._stamps()
        self.initial = self._read()

    def changed(self) -> grpc.ServerCertificateConfiguration | None:
        """The new certificates when a file has changed, else None.

        Called in every handshake. Files that cannot be read, as in the middle of a rotation, leave
        the certificates as they were.
        """
        try:
            stamp = self._stamps()
            if stamp == self._stamp:
                return None
            configuration = self._read()
        except OSError:
            _LOG.exception("certificates not reloaded")
            return None
        self._stamp = stamp
        _LOG.info("certificates reloaded")
        return configuration

    def _stamps(self) -> list[tuple[int, int, int]]:
        stats = [file.stat() for file in self._files]
        return [(s.st_mtime_ns, s.st_ino, s.st_size) for s in stats]

    def _read(self) -> grpc.ServerCertificateConfiguration:
        # gRPC does not say what is wrong with a pair, and finds out late.
        pair = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate_file, key_file = self._files[:2]
        pair.load_cert_chain(certificate_file, key_file, password=lambda: "")
        certificate, key = certificate_file.read_bytes(), key_file.read_bytes()
        roots = self._client_ca.read_bytes() if self._client_ca else None
        return grpc.ssl_server_certificate_configuration([(key, certificate)], roots)


def add_port(server: grpc.aio.Server, settings: ServiceSettings, service: str) -> str:
    """Listens where the settings say and returns the address.

    Raises FAILED_PRECONDITION when the port is taken, when certificates cannot be read, and when
    plaintext would leave the machine.
    """
    host, _, port = settings.address(service).rpartition(":")
    host = settings.listen_host or host
    address = f"{host}:{port}"
    credentials = _credentials(settings, host)
    try:
        if credentials is None:
            server.add_insecure_port(address)
        else:
            server.add_secure_port(address, credentials)
    except RuntimeError as error:
        raise errors.failed_precondition(
            "WRONG_STATE",
            f"cannot listen on {address}: the port is in use or not ours to take; stop the other "
            f"program, or set TOUCHSTONE_{service.upper()}_ADDRESS to a free one",
        ) from error
    return address


def _credentials(settings: ServiceSettings, host: str) -> grpc.ServerCredentials | None:
    certificate, key = settings.tls_certificate, settings.tls_key
    if certificate is None and key is None:
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
        return None
    if certificate is None or key is None:
        raise errors.invalid(
            "TOUCHSTONE_TLS_CERTIFICATE and TOUCHSTONE_TLS_KEY", "only one of them", "both or none"
        )
    try:
        files = CertificateFiles(certificate, key, settings.tls_client_ca)
    except OSError as error:
        raise errors.failed_precondition(
            "WRONG_STATE",
            "TOUCHSTONE_TLS_CERTIFICATE and TOUCHSTONE_TLS_KEY cannot be used: "
            f"{error.filename or f'{certificate} and {key}'}: {error.strerror}; name a readable "
            "certificate chain (PEM) and its private key without a password",
        ) from error
    return grpc.dynamic_ssl_server_credentials(
        files.initial,
        files.changed,  # type: ignore[arg-type]  # None, for no change, is allowed
        require_client_authentication=settings.tls_client_ca is not None,
    )


def _loopback(host: str) -> bool:
    name = host.strip("[]")
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
