"""Settings that every service shares, read from the environment under the prefix TOUCHSTONE_."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.errors import DomainError, FieldViolation, invalid_fields

ServiceName = Literal["assignment", "events", "results", "attribution"]
SERVICES: tuple[ServiceName, ...] = ("assignment", "events", "results", "attribution")

MORE_ADDRESSES = ("assignment_http_address", "events_http_address")
"""Where services listen besides; each may be empty: nowhere."""

_ADDRESS = re.compile(r"(?P<host>\[[0-9a-f:]+\]|[A-Za-z0-9.-]+):(?P<port>[0-9]{1,5})")


def _check_address(value: str) -> str:
    match = _ADDRESS.fullmatch(value)
    if match is None or not 1 <= int(match["port"]) <= 65535:
        raise ValueError("an address is HOST:PORT, such as 127.0.0.1:7701")
    return value


def _check_optional_address(value: str) -> str:
    return _check_address(value) if value else value


Address = Annotated[str, AfterValidator(_check_address)]
OptionalAddress = Annotated[str, AfterValidator(_check_optional_address)]


@dataclass(frozen=True, slots=True)
class ClientTls:
    """Files (PEM) of a TLS client: whom it trusts, and what it presents where mTLS asks for it."""

    ca: Path
    certificate: Path | None = None
    key: Path | None = None


class Settings(BaseSettings):
    """What a program of the suite needs to know of its surroundings."""

    model_config = SettingsConfigDict(
        env_prefix="TOUCHSTONE_", frozen=True, extra="ignore", hide_input_in_errors=True
    )

    data: Path = Field(Path(".touchstone"), description="Folder of everything that is stored.")
    lake: Path | None = Field(None, description="Folder of the event tables. Default: data/lake.")
    database_url: str = Field(
        "", description="State database. Default: SQLite in the data folder.", repr=False
    )
    audit_key_file: Path | None = Field(
        None, description="Keys of the audit log. Default: audit.key in the data folder, made once."
    )
    erasures: Path | None = Field(
        None,
        description="Folder of the ledger of erasures, which no restored backup may replace. "
        "Default: erasures in the data folder.",
    )
    assignment_address: Address = Field("127.0.0.1:7701", description="Where assignment is.")
    assignment_http_address: OptionalAddress = Field(
        "127.0.0.1:7711", description="Where assignment answers OFREP over HTTP. Empty: nowhere."
    )
    events_address: Address = Field("127.0.0.1:7702", description="Where events is.")
    events_http_address: OptionalAddress = Field(
        "127.0.0.1:7712", description="Where events takes OTLP over HTTP. Empty: nowhere."
    )
    results_address: Address = Field("127.0.0.1:7703", description="Where results is.")
    attribution_address: Address = Field("127.0.0.1:7704", description="Where attribution is.")
    tls_ca: Path | None = Field(
        None, description="Certificates (PEM) of the authorities to trust. Turns TLS on in clients."
    )
    tls_client_certificate: Path | None = Field(
        None, description="The certificate chain (PEM) that a client presents for mTLS."
    )
    tls_client_key: Path | None = Field(None, description="Its private key (PEM).")

    @property
    def client_tls(self) -> ClientTls | None:
        """The TLS of clients; None when they speak plaintext."""
        if self.tls_ca is None:
            return None
        return ClientTls(self.tls_ca, self.tls_client_certificate, self.tls_client_key)

    @property
    def lake_path(self) -> Path:
        """The folder of the event tables."""
        return self.lake or self.data / "lake"

    @property
    def state_url(self) -> str:
        """The URL of the state database."""
        return self.database_url or f"sqlite:///{(self.data / 'state.db').absolute()}"

    @property
    def audit_key_path(self) -> Path:
        """The file of the audit log's keys: one a line in hexadecimal, the last one in use."""
        return self.audit_key_file or self.data / "audit.key"

    @property
    def erasures_path(self) -> Path:
        """The folder of the ledger of erasures."""
        return self.erasures or self.data / "erasures"

    def address(self, service: str) -> str:
        """The address of a service."""
        return str(getattr(self, f"{service}_address"))


class ServiceSettings(Settings):
    """What a server needs to know besides."""

    listen_host: str = Field(
        "", description="Interface to listen on. Default: the host of the service's own address."
    )
    allow_plaintext: bool = Field(
        False, description="Serve without TLS on an interface other than loopback."
    )
    tls_certificate: Path | None = Field(None, description="The server's certificate chain (PEM).")
    tls_key: Path | None = Field(None, description="Its private key (PEM).")
    tls_client_ca: Path | None = Field(
        None, description="Authorities (PEM) of client certificates. Turns mTLS on."
    )
    drain_lame_duck_s: float = Field(
        0.0, ge=0, le=300, description="Seconds between NOT_SERVING and the end of new calls."
    )
    drain_grace_s: float = Field(10.0, ge=0, le=300, description="Seconds for calls in flight.")
    max_concurrent_rpcs: int = Field(1000, ge=1, description="Calls served at once.")
    max_watches: int = Field(
        20_000,
        ge=0,
        description="Streams without an end that are open at once, besides calls; half of them of "
        "one project.",
    )
    max_message_bytes: int = Field(4 * 1024 * 1024, ge=1024, description="Largest message.")
    default_call_s: float = Field(
        30.0, gt=0, le=3600, description="Longest duration of a call whose rule names none."
    )
    credential_cache_s: float = Field(
        5.0, ge=0, le=60, description="How long a revoked key may still be accepted."
    )
    credential_outage_s: float = Field(
        900.0,
        ge=0,
        le=604_800,
        description="How long a key that was good goes on being good while the state database is "
        "away. Assignment's own default is 86400.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least severe line that is logged."
    )


def settings_error(error: ValidationError) -> DomainError:
    """The error of settings that do not hold, naming each by its environment variable.

    What a setting says of its value is told in full: a validator that quotes the value cuts it.
    """
    return invalid_fields(
        [
            FieldViolation(
                f"TOUCHSTONE_{'_'.join(str(part) for part in problem['loc']).upper()}",
                f"does not hold: {problem['msg'].removeprefix('Value error, ')}",
            )
            for problem in error.errors(include_input=False)
        ]
    )
