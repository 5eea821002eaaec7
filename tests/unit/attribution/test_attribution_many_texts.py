"""Codes of many texts are those of their bytes, whatever the hash brings together."""

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.attribution.adapters.many_texts import BLOCK, distinct_and_codes

# What ends early, goes on with zeros, or differs behind words that are equal.
TEXTS = st.one_of(
    st.text("ab\0é", max_size=4),
    st.sampled_from(["", "\0", "\0" * 8, "customer", "customer\0", "customer-1", "customer-10"]),
    st.integers(0, 99).map(lambda number: f"customer-of-the-bank-{number}"),
    st.text(max_size=40),
)
COLUMNS = st.lists(st.lists(TEXTS, max_size=40), max_size=4).filter(any)


def column_of(chunks: list[list[str]]) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(chunk, pa.string()) for chunk in chunks], pa.string())


@pytest.mark.parametrize("hash_bits", [0, 1, 3, 64])
@settings(deadline=None)
@given(chunks=COLUMNS)
def test_codes_are_of_the_bytes_however_short_the_hash(
    hash_bits: int, chunks: list[list[str]]
) -> None:
    every = [text for chunk in chunks for text in chunk]

    names, codes = distinct_and_codes(column_of(chunks), hash_bits)

    assert names.to_pylist() == sorted(set(every), key=str.encode)
    assert [names[code].as_py() for code in codes.tolist()] == every


def test_a_column_that_is_a_part_of_another_keeps_its_own_texts() -> None:
    whole = column_of([["left", "out", "a"], ["b", "a", "left out"]])

    names, codes = distinct_and_codes(whole.slice(2, 3))

    assert names.to_pylist() == ["a", "b"]
    assert codes.tolist() == [0, 1, 0]


def test_more_rows_than_are_worked_on_at_once() -> None:
    every = [f"unit {number * number % (BLOCK // 2)}" for number in range(2 * BLOCK + 1)]

    names, codes = distinct_and_codes(column_of([every[: BLOCK + 3], every[BLOCK + 3 :]]))

    assert names.to_pylist() == sorted(set(every))
    assert [names[code].as_py() for code in codes.tolist()] == every
