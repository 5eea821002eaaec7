"""What a call must pass before its handler sees it, one check a class, in this order:
authenticate, authorise, parse, validate.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from google.protobuf.message import DecodeError, Message

from shared.errors import Code, DomainError
from shared.security.authentication import Authenticator
from shared.security.caller import CALL, Call
from shared.server.rpc import Rpc
from shared.server.validation import RequestValidator


class Check(Protocol):
    """Lets a call go on, or raises the DomainError that ends it."""

    async def __call__(self, rpc: Rpc) -> None:
        """Checks the call and notes on it what it found out."""
        ...


class Authenticate:
    """Finds out who is calling, and makes it known to everything the call does."""

    def __init__(self, authenticator: Authenticator) -> None:
        self._authenticator = authenticator

    async def __call__(self, rpc: Rpc) -> None:
        """Raises UNAUTHENTICATED without a valid credential."""
        authorization = rpc.metadata.get("authorization", "")
        caller = await self._authenticator.caller(authorization)
        rpc.call = Call(caller, rpc.method, rpc.request_id, authorization)
        CALL.set(rpc.call)


class Authorise:
    """Lets the caller in only where the RPC's rule names one of its roles."""

    async def __call__(self, rpc: Rpc) -> None:
        """Raises PERMISSION_DENIED otherwise, and for an RPC without a rule."""
        if rpc.call is None:
            raise RuntimeError("authorisation needs an authenticated call")
        held = rpc.call.caller.roles
        if rpc.rule is not None and rpc.rule.admits(held):
            return
        wanted = sorted(r.name.lower() for r in rpc.rule.roles) if rpc.rule else []
        raise DomainError(
            Code.PERMISSION_DENIED,
            "MISSING_ROLE",
            f"{rpc.method} needs one of the roles {', '.join(wanted) or '(none is admitted)'}; "
            f"this key holds {', '.join(sorted(r.name.lower() for r in held)) or 'none'}",
        )


class Parse:
    """Decodes the request. A server that leaves this to gRPC answers INTERNAL to bad bytes."""

    def __init__(self, request_types: Mapping[str, type[Message]]) -> None:
        self._request_types = request_types

    async def __call__(self, rpc: Rpc) -> None:
        """Raises INVALID_ARGUMENT when the bytes are no message of the RPC's request type, unless
        the handler does.
        """
        if rpc.rule is not None and rpc.rule.handler_parses:
            rpc.request = rpc.body
            return
        request_type = self._request_types[rpc.method]
        try:
            rpc.request = request_type.FromString(rpc.body)
        except (DecodeError, RecursionError) as error:
            raise malformed(len(rpc.body), request_type) from error


class Validate:
    """Holds the request against the rules of its contract."""

    def __init__(self) -> None:
        self._validator = RequestValidator()

    async def __call__(self, rpc: Rpc) -> None:
        """Raises INVALID_ARGUMENT with every violation, unless the handler does."""
        if rpc.request is None or rpc.rule is None:
            raise RuntimeError("validation needs a parsed request of an authorised call")
        if not rpc.rule.handler_validates:
            if isinstance(rpc.request, bytes):
                raise TypeError(f"{rpc.method} is parsed by its handler, which must validate too")
            self._validator.check(rpc.request, rpc.rule.per_item)


def malformed(size_bytes: int, request_type: type[Message]) -> DomainError:
    """The bytes of a request are no message of its type."""
    return DomainError(
        Code.INVALID_ARGUMENT,
        "MALFORMED_REQUEST",
        f"the {size_bytes} bytes of the request are not a {request_type.DESCRIPTOR.full_name} "
        "(cut off, nested too deeply, of another type, or with text that is not UTF-8)",
    )
