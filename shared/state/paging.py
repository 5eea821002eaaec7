"""Pages of lists: opaque tokens, bound to the request that they belong to."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from google.protobuf.message import Message

from shared.errors import Code, DomainError

DEFAULT_PAGE_SIZE = 100
MAX_PAGE_SIZE = 1000


@dataclass(frozen=True, slots=True)
class Page:
    """Where a page starts: behind the sort key `after` (None for the first one), and its size."""

    size: int
    after: str | None
    scope: str

    def token(self, last_key: str) -> str:
        """The token of the page that starts behind `last_key`."""
        data = json.dumps([self.scope, last_key], separators=(",", ":")).encode()
        return base64.urlsafe_b64encode(data).decode()

    def place(self, form: str) -> Sequence[str] | None:
        """The groups of the regular expression `form` in the sort key, None for the first page.

        A token is not a secret: whoever knows how it is made can put any sort key into one. Raises
        INVALID_ARGUMENT when the key has another form.
        """
        if self.after is None:
            return None
        match = re.fullmatch(form, self.after, re.ASCII)
        if match is None:
            raise _bad_token()
        return match.groups()


def read_page(request: Message, project: str) -> Page:
    """The page that a list request asks for.

    The request has `page_size` and `page_token`; every other field is part of what the token is
    bound to, and so is the caller's project. Raises INVALID_ARGUMENT for a token that was made
    for another request or by nobody.
    """
    size: int = request.page_size  # type: ignore[attr-defined]
    token: str = request.page_token  # type: ignore[attr-defined]
    scope = _scope(request, project)
    size = min(size, MAX_PAGE_SIZE) if size else DEFAULT_PAGE_SIZE
    if not token:
        return Page(size, None, scope)
    try:
        given, after = json.loads(base64.urlsafe_b64decode(token.encode()))
        storable = isinstance(after, str) and b"\0" not in after.encode()
    except (ValueError, TypeError, binascii.Error) as error:
        raise _bad_token() from error
    if given != scope or not storable:
        raise _bad_token()
    return Page(size, after, scope)


def _scope(request: Message, project: str) -> str:
    rest = type(request)()
    rest.CopyFrom(request)
    rest.ClearField("page_size")
    rest.ClearField("page_token")
    data = rest.SerializeToString(deterministic=True)
    name = f"{request.DESCRIPTOR.full_name}:{project}:".encode()
    return hashlib.sha256(name + data).hexdigest()[:24]


def _bad_token() -> DomainError:
    return DomainError(
        Code.INVALID_ARGUMENT,
        "INVALID_PAGE_TOKEN",
        "page_token is not one that this list gave for this request; send next_page_token "
        "unchanged, with the same other fields, or start again without it",
    )
