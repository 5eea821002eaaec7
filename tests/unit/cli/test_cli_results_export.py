"""`touchstone results export`: a file is there as a whole, or as it was before."""

from pathlib import Path

import pytest
from touchstone.results.v1 import export_service_pb2 as pb

from services.cli.commands.results_export import write_file
from shared.errors import Code, DomainError

FIRST = pb.ExportResultsResponse(content=b"one,", file_name="checkout.csv", size_bytes=7)
REST = pb.ExportResultsResponse(content=b"two")


def test_all_parts_are_one_file(tmp_path: Path) -> None:
    write_file(FIRST, iter([REST]), tmp_path / "made.csv")
    assert (tmp_path / "made.csv").read_bytes() == b"one,two"
    assert list(tmp_path.iterdir()) == [tmp_path / "made.csv"]


def test_what_was_cut_off_replaces_nothing(tmp_path: Path) -> None:
    file = tmp_path / "made.csv"
    file.write_bytes(b"as it was")
    with pytest.raises(DomainError, match="4 of 7 bytes") as caught:
        write_file(FIRST, iter([]), file)
    assert caught.value.code is Code.UNAVAILABLE
    assert file.read_bytes() == b"as it was"
    assert list(tmp_path.iterdir()) == [file]


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DomainError, match="cannot be written") as caught:
        write_file(FIRST, iter([REST]), tmp_path / "none" / "made.csv")
    assert caught.value.reason == "OUTPUT_LOST"
