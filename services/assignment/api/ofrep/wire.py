"""The JSON of OFREP: contexts in, flags and failures out."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import NoReturn

from google.rpc import error_details_pb2

from services.assignment.application.flag_context import TARGETING_KEY
from services.assignment.application.flag_errors import FlagError
from services.assignment.application.flag_set import FlagType
from services.assignment.application.flags import ResolvedFlag
from services.assignment.domain.config_tag import config_tag
from shared.errors import Code, DomainError, limit_exceeded, shown
from shared.server.http import HttpFailure, HttpReply, HttpRequest
from shared.server.http_call import HttpCall

BODY_BYTES = 256 * 1024
"""Of a request: what is known of one unit."""
EVENTS_PATH = "/ofrep/v1/events"
INACTIVITY_S = 120
"""How long a client that nobody looks at may go on following changes."""
_JSON = {"content-type": "application/json"}
_CODES = {
    "RESOURCE_NOT_FOUND": "FLAG_NOT_FOUND",
    "MALFORMED_REQUEST": "PARSE_ERROR",
    "TARGETING_KEY_MISSING": "TARGETING_KEY_MISSING",
    "INVALID_CONTEXT": "INVALID_CONTEXT",
}
_GENERAL = "GENERAL"
_STREAMS = [
    {
        "type": "sse",
        "endpoint": {"requestUri": EVENTS_PATH},
        "inactivityDelaySec": INACTIVITY_S,
    }
]


def context_of(request: HttpRequest) -> dict[str, object]:
    """The context of an evaluation; none is an empty one.

    INVALID_ARGUMENT when the body is no JSON object or its context no context,
    RESOURCE_EXHAUSTED when it is too large.
    """
    size = len(request.body)
    if size > BODY_BYTES:
        raise limit_exceeded("bytes of a request for flags", size, BODY_BYTES)
    try:
        body = json.loads(request.body, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise _not_json(size) from error
    if not isinstance(body, dict):
        raise _not_json(size)
    context = body.get("context")
    if context is None:
        return {}
    if not isinstance(context, dict):
        raise _invalid_context(f"context is {_kind(context)}; allowed: an object")
    key = context.get(TARGETING_KEY)
    if key is not None and not isinstance(key, str):
        raise _invalid_context(f"context.{TARGETING_KEY} is {_kind(key)}; allowed: text")
    return context


def answer(found: ResolvedFlag) -> dict[str, object]:
    """A flag that is answered."""
    return {
        "key": found.key,
        "value": _value(found),
        "variant": found.variant,
        "reason": found.reason.value,
        "metadata": dict(found.metadata),
    }


def _value(found: ResolvedFlag) -> object:
    """Some clients tell whole numbers from others by how they are written."""
    if found.type is FlagType.FLOAT and isinstance(found.value, int | float):
        return float(found.value)
    return found.value


def refusal(error: FlagError) -> dict[str, object]:
    """A flag that cannot be answered, among others that can."""
    code = _CODES.get(error.reason, _GENERAL)
    return {"key": error.key, "errorCode": code, "errorDetails": error.message}


def bulk(
    flags: Sequence[ResolvedFlag | FlagError], metadata: Mapping[str, object]
) -> dict[str, object]:
    """All flags for one context, and where their changes are told."""
    found = [refusal(flag) if isinstance(flag, FlagError) else answer(flag) for flag in flags]
    return {"flags": found, "metadata": dict(metadata), "eventStreams": _STREAMS}


def reply(body: bytes, headers: Mapping[str, str] | None = None) -> HttpReply:
    """An encoded body with status 200."""
    return HttpReply(body, 200, {**_JSON, **(headers or {})})


def encoded(body: Mapping[str, object]) -> bytes:
    """The bytes of a body; in ASCII, so that any text has a form."""
    return json.dumps(body, separators=(",", ":"), allow_nan=False).encode()


def entity_tag(context: Mapping[str, object], body: bytes) -> str:
    """Of what a context was answered.

    The body names the flag set and the version of its configuration. All of it counts: what a unit
    gets may change with the time and with what the server keeps of it, at the same version.
    """
    asked = json.dumps(context, separators=(",", ":"), sort_keys=True).encode()
    digest = hashlib.blake2b(asked, digest_size=16)
    digest.update(b"\0" + body)
    return f'"{digest.hexdigest()}"'


def change(project: str, config_version: int, time_s: int) -> bytes:
    """The event that asks clients to evaluate again."""
    data = {
        "type": "refetchEvaluation",
        "etag": config_tag(project, config_version),
        "lastModified": time_s,
    }
    return b"id: %d\nevent: message\ndata: %s\n\n" % (config_version, encoded(data))


def failed(call: HttpCall, failure: HttpFailure) -> HttpReply:
    """A call that failed, in the words of OFREP."""
    info = error_details_pb2.ErrorInfo()
    for detail in failure.error.details:
        detail.Unpack(info)
    code = _CODES.get(info.reason, _GENERAL)
    body = {"errorCode": code, "errorDetails": failure.error.message}
    if call.part:
        body = {"key": call.part, **body}
    return HttpReply(encoded(body), failure.status, _JSON)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)


def _not_json(size: int) -> DomainError:
    return DomainError(
        Code.INVALID_ARGUMENT,
        "MALFORMED_REQUEST",
        f"the {size} bytes of the body are no JSON object in UTF-8; send "
        '{"context": {"targetingKey": "user-1"}}, where numbers are finite',
    )


def _invalid_context(message: str) -> DomainError:
    return DomainError(Code.INVALID_ARGUMENT, "INVALID_CONTEXT", message)


def _kind(value: object) -> str:
    """What JSON calls it; the value itself may tell whom it is about."""
    kinds = {bool: "a boolean", str: "a string", list: "an array", dict: "an object"}
    return kinds.get(type(value), "a number") if value is not None else shown(None)
