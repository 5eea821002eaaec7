"""Spans of time as people write them: 14d, 36h, 90m, 30s."""

from __future__ import annotations

import datetime as dt
import re

from google.protobuf.duration_pb2 import Duration

PATTERN = "^[0-9]{1,9}(\\.[0-9]{1,6})?[smhd]$"
SPAN = "a span such as 14d, 36h, 90m or 30s"
_SECONDS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
_MICROSECONDS = 1_000_000


def read_span(into: Duration, text: str) -> None:
    """Set a duration from its text; ValueError with what is allowed."""
    if not re.fullmatch(PATTERN, text):
        raise ValueError(SPAN)
    whole, _, part = text[:-1].partition(".")
    microseconds = int(whole) * _MICROSECONDS + int(part.ljust(6, "0") or 0)
    into.FromTimedelta(dt.timedelta(microseconds=microseconds * _SECONDS[text[-1]]))


def span_text(span: Duration) -> str:
    """The text in the largest unit that it is a whole number of."""
    microseconds = span.ToMicroseconds()
    for unit, seconds in _SECONDS.items():
        count, rest = divmod(microseconds, seconds * _MICROSECONDS)
        if not rest:
            return f"{count}{unit}"
    whole, part = divmod(microseconds, _MICROSECONDS)
    return f"{whole}.{part:06}s"
