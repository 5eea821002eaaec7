"""Which files are rewritten, and how often the same row is."""

import datetime as dt
import math

import pytest

from shared.lake.upkeep import (
    CROWD,
    MOST_FILES,
    QUIET,
    TARGET_BYTES,
    DataFile,
    worthwhile_rewrites,
)

TODAY = dt.date(2026, 6, 2)
NOW = dt.datetime(2026, 6, 2, 12, tzinfo=dt.UTC)
YESTERDAY = TODAY - dt.timedelta(days=1)
LONG_AGO = NOW - 2 * QUIET
MIB = 1024 * 1024


def data_file(
    number: int,
    size: int,
    day: dt.date = TODAY,
    modified: dt.datetime = LONG_AGO,
    project: str = "acme",
) -> DataFile:
    modified_ms = int(modified.timestamp() * 1000)
    return DataFile(f"{number:09d}", size, (project, day), modified_ms, number)


def rewritten(*files: DataFile) -> list[list[int]]:
    """The positions of the files of each rewrite."""
    found = worthwhile_rewrites(iter(files), NOW)
    return [[file.first_position for file in rewrite.inputs] for rewrite in found]


def test_a_crowd_of_small_files_is_joined_in_the_order_of_arrival() -> None:
    files = [data_file(n, 10_000 - n) for n in range(CROWD)]
    assert rewritten(*files) == [list(range(CROWD))]
    assert rewritten(*files[1:]) == []


def test_the_most_crowded_partition_comes_first() -> None:
    few = [data_file(n, 1000) for n in range(CROWD)]
    many = [data_file(100 + n, 1000, project="b") for n in range(CROWD + 1)]
    assert [r[0] for r in rewritten(*few, *many)] == [100, 0]


def test_a_file_larger_than_all_the_others_together_is_left_alone() -> None:
    files = [data_file(n, 1000) for n in range(CROWD)]
    assert rewritten(*files, data_file(99, 1000 * CROWD)) == [[*range(CROWD), 99]]
    assert rewritten(*files, data_file(99, 1000 * CROWD + 1)) == [list(range(CROWD))]


def test_a_large_file_is_never_rewritten() -> None:
    halves = [data_file(n, TARGET_BYTES // 2, YESTERDAY) for n in range(3)]
    assert rewritten(*halves) == []


def test_a_closed_day_is_joined_down_to_two_files() -> None:
    pair = [data_file(n, 5 * MIB, YESTERDAY) for n in range(2)]
    assert rewritten(*pair) == [[0, 1]]
    assert rewritten(pair[0]) == []
    assert rewritten(*[data_file(n, 5 * MIB, TODAY) for n in range(2)]) == []


def test_a_past_day_that_still_gets_events_waits_for_a_crowd() -> None:
    busy = [data_file(n, 5000, YESTERDAY, modified=NOW) for n in range(CROWD - 1)]
    assert rewritten(*busy) == []
    assert rewritten(*busy, data_file(99, 5000, YESTERDAY)) == [[*range(CROWD - 1), 99]]


def test_a_rewrite_ends_near_the_target_and_takes_a_bounded_number() -> None:
    large = [data_file(n, 40 * MIB, YESTERDAY) for n in range(9)]
    (first,) = rewritten(*large)
    assert TARGET_BYTES <= len(first) * 40 * MIB < 1.5 * TARGET_BYTES
    tiny = [data_file(n, 100) for n in range(1000)]
    assert [len(inputs) for inputs in rewritten(*tiny)] == [MOST_FILES]


@pytest.mark.parametrize("flush_bytes", [6_000, 100_000, 2 * MIB])
def test_write_amplification_and_files_stay_within_what_is_stated(flush_bytes: int) -> None:
    """A day of flushes: rewritten bytes are a small multiple of the bytes that came."""
    files: list[DataFile] = []
    came = rewritten_bytes = most_files = 0
    while came < 3 * TARGET_BYTES and len(files) < 20_000:
        files.append(data_file(came, flush_bytes))
        came += flush_bytes
        for rewrite in worthwhile_rewrites(iter(files), NOW):
            gone = {file.path for file in rewrite.inputs}
            files = [file for file in files if file.path not in gone]
            files.append(data_file(rewrite.inputs[0].first_position, rewrite.size_bytes))
            rewritten_bytes += rewrite.size_bytes
            assert rewrite.size_bytes >= 2 * max(file.size_bytes for file in rewrite.inputs)
        small = [file for file in files if file.size_bytes < TARGET_BYTES // 2]
        most_files = max(most_files, len(small))
    bound = math.log2(TARGET_BYTES / flush_bytes)
    assert rewritten_bytes / came <= max(1.0, bound / 2.5)
    assert most_files <= CROWD + bound
