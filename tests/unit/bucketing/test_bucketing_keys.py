"""The key rule: printable, injective, and closed to what cannot be written."""

import string
from collections.abc import Callable
from urllib.parse import quote, unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from touchstone_assignment.bucketing import bucketing_key, encode_unit, unit_bytes
from touchstone_assignment.bucketing.hashes import cbor_text

UNITS = st.text(alphabet=st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60)
SALTS = st.text(alphabet=string.ascii_letters + string.digits + "._/-", min_size=1, max_size=30)
PRINTABLE = "".join(chr(code) for code in range(0x20, 0x7F))


@given(UNITS)
def test_a_key_is_printable_ascii_and_can_be_read_back(unit: str) -> None:
    encoded = encode_unit(unit)
    assert set(encoded) <= set(PRINTABLE)
    assert unquote(encoded) == unit


@given(UNITS)
def test_the_rule_is_urllibs_quote_with_all_of_printable_ascii_safe(unit: str) -> None:
    assert encode_unit(unit) == quote(unit, safe=PRINTABLE.replace("%", ""))
    assert unit_bytes(unit) == encode_unit(unit).encode("ascii")


@given(SALTS, UNITS, SALTS, UNITS)
def test_different_pairs_never_share_a_key(
    salt: str, unit: str, other_salt: str, other: str
) -> None:
    same = (salt, unit) == (other_salt, other)
    assert (bucketing_key(salt, unit) == bucketing_key(other_salt, other)) is same


def test_an_id_that_looks_encoded_stays_different_from_what_it_looks_like() -> None:
    assert encode_unit("caf%C3%A9") == "caf%25C3%25A9"
    assert encode_unit("café") == "caf%C3%A9"


@pytest.mark.parametrize("encode", [encode_unit, unit_bytes])
def test_an_empty_id_is_refused(encode: Callable[[str], object]) -> None:
    with pytest.raises(ValueError, match="at least one character"):
        encode("")


def test_an_unpaired_surrogate_is_refused() -> None:
    with pytest.raises(ValueError, match="unpaired surrogate"):
        encode_unit("a\ud800")


@pytest.mark.parametrize("salt", ["", "a:b", "a b", "é", "x" * 129, "a%"])
def test_a_salt_that_could_confuse_two_keys_is_refused(salt: str) -> None:
    with pytest.raises(ValueError, match="1 to 128 characters"):
        bucketing_key(salt, "u")


@pytest.mark.parametrize(
    ("size", "head"),
    [
        (0, b"\x60"),
        (23, b"\x77"),
        (24, b"\x78\x18"),
        (255, b"\x78\xff"),
        (256, b"\x79\x01\x00"),
        (65_535, b"\x79\xff\xff"),
        (65_536, b"\x7a\x00\x01\x00\x00"),
    ],
)
def test_the_cbor_head_is_the_shortest_one(size: int, head: bytes) -> None:
    assert cbor_text("k" * size) == head + b"k" * size
