"""Column types that mean the same on SQLite and on PostgreSQL."""

from __future__ import annotations

import datetime as dt
from typing import Any

import sqlalchemy as sa
from sqlalchemy.types import TypeDecorator

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MICROSECOND = dt.timedelta(microseconds=1)


def text(length: int = 256) -> sa.String:
    """Text compared and ordered by code point: case-sensitive, trailing blanks kept."""
    return sa.String(length).with_variant(sa.String(length, collation="C"), "postgresql")


class UtcTime(TypeDecorator[dt.datetime]):
    """An aware UTC time, stored as whole microseconds since 1970."""

    impl = sa.BigInteger
    cache_ok = True

    def process_bind_param(self, value: dt.datetime | None, dialect: Any) -> int | None:
        """Encodes; a naive time is a programming error."""
        del dialect
        if value is None:
            return None
        return (value - _EPOCH) // _MICROSECOND

    def process_result_value(self, value: int | None, dialect: Any) -> dt.datetime | None:
        """Decodes."""
        del dialect
        if value is None:
            return None
        return _EPOCH + value * _MICROSECOND
