"""The checks of `touchstone doctor`: each says what it found, and what to do when it failed."""

from __future__ import annotations

import datetime as dt
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import grpc
from touchstone.common.v1 import access_service_pb2 as access_pb
from touchstone.common.v1 import rpc_pb2
from touchstone.events.v1 import events_service_pb2 as events_pb

from services.cli.failures import NEXT, from_call
from services.cli.figures import enum_name, last_part
from services.cli.owner import find_key, open_to_others
from services.cli.session import Session
from services.cli.settings import CliSettings
from services.cli.suite import health
from shared.clock import Clock
from shared.errors import DomainError
from shared.settings import SERVICES
from shared.version import VERSION

_OLDEST_PYTHON = (3, 11)
_LEAST_FREE_BYTES = 1 << 30
_MAX_SKEW_S = 60.0


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the report."""

    name: str
    ok: bool
    found: str
    advice: str = ""


def check_all(settings: CliSettings, clock: Clock) -> Iterator[Check]:
    """Every check, those first that the others depend on."""
    yield check_python(sys.version_info[:2])
    yield check_data(settings)
    yield check_disk(settings)
    yield check_key(settings)
    for service in SERVICES:
        yield check_service(settings, service)
    try:
        with Session(settings) as session:
            yield _asked("caller", lambda: _check_caller(session))
            yield _asked("clock", lambda: _check_clock(session, clock))
            yield _asked("audit log", lambda: check_audit(session))
    except DomainError as error:
        yield Check("calls", False, error.message, "get a key first")


def check_python(version: tuple[int, ...]) -> Check:
    """The interpreter is one that the suite runs on."""
    text = f"Python {'.'.join(map(str, version))}, Touchstone {VERSION}"
    return Check("program", version >= _OLDEST_PYTHON, text, "install Python 3.11 or later")


def check_data(settings: CliSettings) -> Check:
    """The data folder is there and can be written."""
    if settings.data.exists() and not settings.data.is_dir():
        found = f"{settings.data} is a file, not a folder"
        return Check("data folder", False, found, "name a folder with --data or TOUCHSTONE_DATA")
    if not settings.data.is_dir():
        return Check("data folder", False, f"{settings.data} is missing", "run `touchstone up`")
    from shared.server.platform import prepare_folder

    try:
        prepare_folder(settings.data)
    except DomainError as error:
        return Check("data folder", False, error.message, "make it writable for this user")
    return Check("data folder", True, str(settings.data.absolute()))


def check_disk(settings: CliSettings) -> Check:
    """There is room to write."""
    folder = settings.data.absolute()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    return Check(
        "disk",
        free >= _LEAST_FREE_BYTES,
        f"{free / (1 << 30):.1f} GiB free",
        f"make room: at least {_LEAST_FREE_BYTES / (1 << 30):.0f} GiB",
    )


def check_key(settings: CliSettings) -> Check:
    """There is a key, and a key file is for its owner only."""
    try:
        _, source = find_key(settings)
    except DomainError as error:
        advice = "set TOUCHSTONE_API_KEY to a key, or run `touchstone up` on this data folder"
        return Check("key", False, error.message, advice)
    if source == str(settings.owner_key_path) and open_to_others(settings.owner_key_path):
        mode = f"{settings.owner_key_path.stat().st_mode & 0o777:o}"
        advice = f"chmod 600 {settings.owner_key_path}"
        return Check("key", False, f"{source} has mode {mode}: others can use it", advice)
    return Check("key", True, source)


def check_service(settings: CliSettings, service: str) -> Check:
    """The service answers and can keep its promise."""
    address = settings.address(service)
    status = health(address, settings.client_tls)
    log = settings.logs_path / f"{service}.log"
    advice = "run `touchstone up`" if status == "UNAVAILABLE" else f"read {log}"
    return Check(service, status == "SERVING", f"{address} {status}", advice)


def _asked(name: str, ask: Callable[[], Check]) -> Check:
    try:
        return ask()
    except grpc.RpcError as error:
        return refused(name, from_call(error))


def refused(name: str, problem: DomainError) -> Check:
    """The check whose call failed, with what to do about that failure."""
    if problem.reason == "NOT_RUNNING":
        return Check(name, False, problem.message, "start the services, then look again")
    advice = NEXT.get(problem.code, "read the logs of the services")
    return Check(name, False, problem.message, advice)


def _check_caller(session: Session) -> Check:
    """The services know the key."""
    reply = session.access.GetCaller(access_pb.GetCallerRequest())
    roles = ", ".join(enum_name(rpc_pb2.Role.DESCRIPTOR, role, "ROLE_") for role in reply.roles)
    found = f"key {last_part(reply.key)} of project {reply.project}: {roles}"
    return Check("caller", True, found)


def _check_clock(session: Session, clock: Clock) -> Check:
    """The services are not ahead of this machine, as far as the last commit shows."""
    reply = session.events.GetWatermark(events_pb.GetWatermarkRequest())
    if not reply.HasField("commit_time"):
        return Check("clock", True, "no event was logged yet: nothing to compare")
    ahead = reply.commit_time.ToDatetime(dt.UTC) - clock.now()
    skew_s = ahead.total_seconds()
    found = f"last commit {-skew_s:.0f} s ago, {reply.pending_batches} batches pending"
    advice = "set the clocks by NTP: the events service is ahead of this machine"
    return Check("clock", skew_s <= _MAX_SKEW_S, found, advice)


def check_audit(session: Session) -> Check:
    """Nobody changed the audit log, as far as the key may ask."""
    request = access_pb.VerifyAuditLogRequest(parent=session.parent)
    try:
        reply = session.audit.VerifyAuditLog(request)
    except grpc.RpcError as error:
        if error.code() is not grpc.StatusCode.PERMISSION_DENIED:
            raise
        return Check("audit log", True, "skipped: needs the role admin")
    if reply.intact:
        return Check("audit log", True, f"{reply.checked} entries, intact")
    advice = "keep a copy of the state database and find out who wrote to it"
    return Check("audit log", False, f"entry {reply.first_bad_sequence}: {reply.problem}", advice)
