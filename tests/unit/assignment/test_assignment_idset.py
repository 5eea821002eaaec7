"""A set of ids by their fingerprints: the bytes are a contract between servers and clients."""

import hashlib
import tracemalloc

import mmh3
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from touchstone_assignment.conditions import IdSet
from touchstone_assignment.conditions.id_set import digest_of, fingerprint, written

# Written by hand from the reference vectors of MurmurHash3 x64 128 (h1); append only.
KNOWN = {
    "": 0x0000000000000000,
    "foo": 0xE271865701F54561,
    "customer-1": 0x001E7ADF1518F63B,
}

IDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)


@pytest.mark.parametrize(("unit_id", "known"), KNOWN.items())
def test_a_fingerprint_is_the_first_word_of_murmur3(unit_id, known) -> None:
    assert fingerprint(unit_id) == known
    assert mmh3.hash64(unit_id, signed=False)[0] == known


def test_the_bytes_are_big_endian_and_ascend() -> None:
    data = written(KNOWN.values())
    assert data.hex() == "0000000000000000" + "001e7adf1518f63b" + "e271865701f54561"
    assert IdSet.of_ids(["foo", "", "customer-1", "foo"]).digest == digest_of(data)
    assert digest_of(data) == hashlib.sha256(data).hexdigest()


@settings(deadline=None)
@given(st.sets(IDS, max_size=200), st.sets(IDS, max_size=50))
def test_it_holds_exactly_what_was_put_in(inside, outside) -> None:
    ids = IdSet.of_ids(inside)
    assert len(ids) == len(inside)
    assert all(unit_id in ids for unit_id in inside)
    assert not any(unit_id in ids for unit_id in outside - inside)


@settings(deadline=None)
@given(st.lists(IDS, max_size=50))
def test_order_and_repetition_do_not_matter(ids) -> None:
    assert IdSet.of_ids(ids).digest == IdSet.of_ids([*reversed(ids), *ids]).digest


def test_the_ends_of_the_range_are_found() -> None:
    ends = [0, 1, 2**48 - 1, 2**48, 2**63, 2**64 - 2**48, 2**64 - 1]
    ids = IdSet.from_fingerprints(written(ends))
    assert len(ids) == len(ends)
    assert "" in ids


def test_a_damaged_content_is_refused() -> None:
    data = written(KNOWN.values())
    with pytest.raises(ValueError, match="23 bytes are no fingerprints"):
        IdSet.from_fingerprints(data[:-1])
    for damaged in (data[8:] + data[:8], data + data[-8:]):
        with pytest.raises(ValueError, match="do not ascend"):
            IdSet.from_fingerprints(damaged)


def test_an_id_without_utf_8_is_no_member() -> None:
    assert "\ud800" not in IdSet.of_ids(["a"])
    with pytest.raises(UnicodeEncodeError):
        IdSet.of_ids(["\ud800"])


def test_twenty_thousand_ids_take_eight_bytes_each() -> None:
    data = written(fingerprint(f"customer-{number}") for number in range(20_000))
    tracemalloc.start()
    try:
        ids = IdSet.from_fingerprints(data)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 9 * len(ids) + 20_000
    assert all(f"customer-{number}" in ids for number in range(0, 20_000, 97))
    assert not any(f"stranger-{number}" in ids for number in range(1000))
