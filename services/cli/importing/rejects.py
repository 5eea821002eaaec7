"""The file of what did not go in: line, column, value, reason, and the row to mend."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO

from services.cli.importing.batches import Rejection
from services.cli.rendering import neutral
from shared.errors import invalid

_HEADER = ("line", "column", "value", "reason", "row")
_LONGEST_HEADER = 1000


class RejectsFile:
    """Is made when the first rejection comes; what an earlier import left there is replaced,
    unless `keep_bytes` of it belong to the part that is already in. See `free_path`.
    """

    def __init__(self, path: Path, columns: Sequence[str], keep_bytes: int = 0) -> None:
        require_ours(path)
        self.path = path
        self._columns = columns
        self._file: TextIO | None = None
        if path.exists() and keep_bytes:
            self._file = path.open("r+", newline="", encoding="utf-8")
            self._file.truncate(keep_bytes)
            self._file.seek(0, 2)
        elif path.is_symlink() and _is_ours(path):
            path.write_bytes(b"")
        elif _is_ours(path):
            path.unlink()

    @property
    def size_bytes(self) -> int:
        """How long the file is; 0 when there is none."""
        return 0 if self._file is None else os.fstat(self._file.fileno()).st_size

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._file is not None:
            self._file.close()

    def add(self, rejections: Sequence[Rejection]) -> None:
        """Writes rejections and hands them to the system."""
        if not rejections:
            return
        if self._file is None:
            self._file = self._create()
        writer = csv.writer(self._file, lineterminator="\n")
        for rejection in rejections:
            writer.writerow(
                [
                    rejection.row.line,
                    neutral(rejection.column),
                    neutral(_text(rejection.value)),
                    neutral(rejection.reason),
                    self._record(rejection),
                ]
            )
        self._file.flush()

    def _create(self) -> TextIO:
        try:
            file = self.path.open("w", newline="", encoding="utf-8")
        except OSError as error:
            raise invalid(
                "--rejects", str(self.path), f"a file that can be written ({error.strerror})"
            ) from error
        csv.writer(file, lineterminator="\n").writerow(_HEADER)
        return file

    def _record(self, rejection: Rejection) -> str:
        cells = rejection.row.cells
        if len(cells) != len(self._columns):
            return json.dumps([_text(cell) for cell in cells])
        return json.dumps(dict(zip(self._columns, map(_text, cells), strict=True)))


def free_path(path: Path) -> Path:
    """The path; where something is there already, the first of `x-2`, `x-3` and so on."""
    found, number = path, 1
    while os.path.lexists(found):
        number += 1
        found = path.with_name(f"{path.stem}-{number}{path.suffix}")
    return found


def require_ours(path: Path, header: Sequence[str] = _HEADER) -> None:
    """Raises INVALID_ARGUMENT when the path is of a file that no import of the kind has written:
    its first line is not the header.
    """
    theirs = path.is_file() and path.stat().st_size > 0 and not _is_ours(path, header)
    if path.is_dir() or theirs:
        raise invalid(
            "--rejects",
            str(path),
            "a new file, or one that an import wrote; this one is something else, and stays as "
            "it is",
        )


def _is_ours(path: Path, header: Sequence[str] = _HEADER) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.readline(_LONGEST_HEADER).rstrip(b"\r\n") == ",".join(header).encode()


def _text(value: object) -> str:
    return "" if value is None else str(value)
