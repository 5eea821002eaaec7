"""One call on its way through the server."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.message import Message

from shared.ids import IdGenerator
from shared.security.caller import Call
from shared.server.rules import Rule
from shared.server.status import REQUEST_ID

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

Context = Any  # grpc.aio.ServicerContext, which is generic only to type checkers


@dataclass(slots=True)
class Rpc:
    """What is known of a call so far. The checks fill in `call` and `request`."""

    method: str
    rule: Rule | None
    body: bytes
    context: Context
    request_id: str
    metadata: dict[str, str] = field(default_factory=dict)
    call: Call | None = None
    request: Message | bytes | None = None


def receive(method: str, rule: Rule | None, body: bytes, context: Context, ids: IdGenerator) -> Rpc:
    """A call as it arrives. It keeps the caller's request id when that is a plain word."""
    metadata = {
        key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)
    }
    given = metadata.get(REQUEST_ID, "")
    request_id = given if _REQUEST_ID.fullmatch(given) else ids.new()
    return Rpc(method, rule, body, context, request_id, metadata)
