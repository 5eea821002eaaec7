"""Whole lists from pages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from google.protobuf.message import Message

M = TypeVar("M", bound=Message)

_PAGE = 1000


def collect(call: Callable[[Any], M], request: Any, field: str, limit: int) -> M:
    """One response with up to `limit` items of all pages in `field`. Its `next_page_token` says
    where the rest begins, empty when there is none.
    """
    request.page_size = min(limit, _PAGE)
    whole: Any = call(request)
    items = getattr(whole, field)
    while whole.next_page_token and len(items) < limit:
        request.page_token = whole.next_page_token
        request.page_size = min(limit - len(items), _PAGE)
        page: Any = call(request)
        items.extend(getattr(page, field))
        whole.next_page_token = page.next_page_token
    kept: M = whole
    return kept
