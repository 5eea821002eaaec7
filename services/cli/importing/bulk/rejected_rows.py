"""The file of the rows that did not go in."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO

from services.cli.importing.bulk.tally import RejectedRow
from services.cli.importing.rejects import require_ours
from services.cli.rendering import neutral
from shared.errors import invalid

HEADER = ("file", "row", "column", "value", "why", "reason", "event_id")
_SHOWN = 1000


class RejectedRowsFile:
    """Is made when the first row comes; what an earlier import left there is replaced."""

    def __init__(self, path: Path) -> None:
        require_ours(path, HEADER)
        self.path = path
        self._file: TextIO | None = None
        if path.is_file():
            path.unlink()

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

    def add(self, rows: Iterable[RejectedRow]) -> None:
        """Writes rows and hands them to the system."""
        for row in rows:
            if self._file is None:
                self._file = self._create()
            value = "" if row.value is None else str(row.value)[:_SHOWN]
            cells = (row.file, row.row, row.column, value, row.kind, row.reason, row.event_id)
            csv.writer(self._file, lineterminator="\n").writerow([neutral(cell) for cell in cells])
        if self._file is not None:
            self._file.flush()

    def _create(self) -> TextIO:
        try:
            file = self.path.open("w", newline="", encoding="utf-8")
        except OSError as error:
            raise invalid(
                "--rejects", str(self.path), f"a file that can be written ({error.strerror})"
            ) from error
        csv.writer(file, lineterminator="\n").writerow(HEADER)
        return file
