"""The golden vectors, the published ones, and a second implementation of the hash."""

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from touchstone_assignment.bucketing import (
    HashVersion,
    bucket_of,
    bucketer,
    bucketing_key,
    encode_unit,
    hash_key,
    unit_bytes,
)

GOLDEN = Path(__file__).resolve().parents[2] / "golden"
VECTORS = json.loads((GOLDEN / "assignment_vectors.json").read_text("utf-8"))
MASK = 0xFFFFFFFF


def murmur3_by_the_book(data: bytes) -> int:
    """MurmurHash3_x86_32 with seed 0 (Appleby, 2011), written from its description."""

    def mix(block: int) -> int:
        block = block * 0xCC9E2D51 & MASK
        block = (block << 15 | block >> 17) & MASK
        return block * 0x1B873593 & MASK

    state = 0
    whole = len(data) // 4 * 4
    for start in range(0, whole, 4):
        state ^= mix(int.from_bytes(data[start : start + 4], "little"))
        state = (state << 13 | state >> 19) & MASK
        state = (state * 5 + 0xE6546B64) & MASK
    if len(data) > whole:
        state ^= mix(int.from_bytes(data[whole:], "little"))
    state ^= len(data)
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        state = (state ^ state >> shift) * factor & MASK
    return state ^ state >> 16


@pytest.mark.parametrize("row", VECTORS, ids=lambda row: ascii(row["key"])[:40])
def test_golden_vector(row: dict[str, Any]) -> None:
    version = HashVersion(row["hash_version"])
    key = str(row["key"])
    assert hash_key(version, key) == row["hash"]
    assert bucket_of(hash_key(version, key), row["slots"]) == row["bucket"]
    if "salt" in row:
        assert bucketing_key(row["salt"], row["unit"]) == key
        assert encode_unit(row["unit"]) == row["encoded"]
        assert (
            bucketer(version, row["salt"], row["slots"])(unit_bytes(row["unit"])) == row["bucket"]
        )


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("ejOoVL", 0),
        ("bY9fO-", 1),
        ("SI7p-", 2**31 - 1),
        ("6LvT0", 2**31),
        ("ceQdGm", 2**32 - 1),
        ("exp-checkoutuser-42", 703967509),
        ("exp-checkoutu1", 4041742913),
        ("café", 605818632),
    ],
)
def test_hashes_published_for_flagd_come_out(key: str, value: int) -> None:
    assert hash_key(HashVersion.FLAGD_V2, key) == value


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=80))
def test_both_versions_agree_with_a_second_implementation(key: str) -> None:
    data = key.encode("utf-8")
    assert hash_key(HashVersion.FLAGD_V2, key) == murmur3_by_the_book(data)
    head = bytes([0x60 + len(data)]) if len(data) < 24 else None
    if head is None:
        head = bytes([0x78, len(data)]) if len(data) < 256 else b"\x79" + len(data).to_bytes(2)
    assert hash_key(HashVersion.FLAGD_V3, key) == murmur3_by_the_book(head + data)


def test_the_edges_of_the_hash_fall_into_the_first_and_last_bucket() -> None:
    assert bucket_of(0, 10_000) == 0
    assert bucket_of(2**32 - 1, 10_000) == 9_999
    assert bucket_of(2**31 - 1, 10_000) == 4_999
    assert bucket_of(2**31, 10_000) == 5_000


@pytest.mark.parametrize("version", HashVersion)
@pytest.mark.parametrize("size", [1, 21, 22, 127, 128, 129, 253, 254, 65_533, 65_534, 70_000])
def test_a_bucketer_agrees_with_the_hash_at_every_length(version: HashVersion, size: int) -> None:
    unit = "u" * size
    expected = bucket_of(hash_key(version, f"s:{unit}"), 10_000)
    assert bucketer(version, "s", 10_000)(unit_bytes(unit)) == expected


def load_command(folder: Path) -> Any:
    for name in ("assignment_vectors.py", "assignment_vectors.json"):
        shutil.copy(GOLDEN / name, folder / name)
    spec = importlib.util.spec_from_file_location(
        "copied_vectors", folder / "assignment_vectors.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_regenerate_command_appends_and_refuses_to_change(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = load_command(tmp_path)
    file = tmp_path / "assignment_vectors.json"
    rows = json.loads(file.read_text("utf-8"))
    file.write_text(json.dumps(rows[:-3]), "utf-8")
    assert command.main() == 0
    assert json.loads(file.read_text("utf-8")) == rows

    tampered = [*rows[:5], rows[5] | {"hash": 7}, *rows[6:]]
    file.write_text(json.dumps(tampered), "utf-8")
    assert command.main() == 1
    assert json.loads(file.read_text("utf-8")) == tampered
    assert "refused: 1 existing vectors" in capsys.readouterr().out
