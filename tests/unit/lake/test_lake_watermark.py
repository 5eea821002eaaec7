"""The watermark file and the freshness token."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import Code, DomainError
from shared.lake.watermark import (
    FILE_NAME,
    ConsistencyToken,
    Watermark,
    read_watermark,
    write_watermark,
)

NOW = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
MARK = Watermark("journal-a", 17, {"exposures": 3, "conversions": 0}, NOW)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    assert read_watermark(tmp_path) is None
    write_watermark(tmp_path, MARK)
    assert read_watermark(tmp_path) == MARK
    assert [p.name for p in tmp_path.iterdir()] == [FILE_NAME]


def test_an_unfinished_replacement_leaves_the_old_watermark(tmp_path: Path) -> None:
    write_watermark(tmp_path, MARK)
    (tmp_path / f"{FILE_NAME}.new").write_text('{"layout_version": 1, "journ')
    assert read_watermark(tmp_path) == MARK
    newer = Watermark("journal-a", 18, {}, NOW)
    write_watermark(tmp_path, newer)
    assert read_watermark(tmp_path) == newer


def test_a_newer_layout_is_refused(tmp_path: Path) -> None:
    write_watermark(tmp_path, MARK)
    fields = json.loads((tmp_path / FILE_NAME).read_text()) | {"layout_version": 2}
    (tmp_path / FILE_NAME).write_text(json.dumps(fields))
    with pytest.raises(DomainError, match="layout version 2; this program reads up to 1") as raised:
        read_watermark(tmp_path)
    assert raised.value.code is Code.FAILED_PRECONDITION


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", '{"layout_version": 1}', "\x00"])
def test_a_damaged_file_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE_NAME).write_text(text)
    with pytest.raises(DomainError, match=FILE_NAME) as raised:
        read_watermark(tmp_path)
    assert raised.value.reason == "STORAGE_UNAVAILABLE"


@given(st.from_regex(r"[0-9a-f-]{1,36}", fullmatch=True), st.integers(0, 2**62))
def test_tokens_return_what_they_hold(journal_id: str, position: int) -> None:
    token = ConsistencyToken(journal_id, position)
    assert ConsistencyToken.decode(token.encode()) == token


@pytest.mark.parametrize("text", ["x", "é", "!!!!", "YTpi", "OjE", "YTotMQ", "a" * 5000, "YTox\n"])
def test_a_foreign_token_is_an_invalid_argument(text: str) -> None:
    with pytest.raises(DomainError, match="was not issued") as raised:
        ConsistencyToken.decode(text)
    assert raised.value.code is Code.INVALID_ARGUMENT


def test_a_watermark_covers_positions_of_its_own_journal_only() -> None:
    assert MARK.covers(ConsistencyToken("journal-a", 17))
    assert not MARK.covers(ConsistencyToken("journal-a", 18))
    assert not MARK.covers(ConsistencyToken("journal-b", 1))
    assert MARK.covers(ConsistencyToken.decode(MARK.token()))
