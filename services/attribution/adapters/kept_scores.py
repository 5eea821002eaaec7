"""Credits behind reports, kept in Parquet files: whoever goes on with a stream reads on in one."""

import errno
import fcntl
import hashlib
import logging
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from services.attribution.adapters.score_files import PART_BYTES, pages_of, write_parquet
from services.attribution.application.stream_credits import CreditPage, Credits
from services.attribution.score_ports import ScoreRows, ScoresKey
from shared.errors import Code, DomainError, overloaded, unavailable
from shared.lake.held import LiveDays
from shared.lake.removal import erased_so_far

_LOG = logging.getLogger(__name__)
FORMAT = "1"
_KEPT, _NEW = ".parquet", ".new"
_IDENTITY = "touchstone.identity_version"
_PROJECT, _REPORT, _DIGEST = "touchstone.project", "touchstone.report", "touchstone.report_digest"
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_FULL_RETRY_S = 60.0
NEW_S = 60.0
_TIMES = {"touchpoints": "touch_time", "conversions": "conversion_time"}

IsReport = Callable[[str, str, str], bool]
"""Whether a project has a report of this id that says what the digest names."""


class ScoreFile:
    """See ScoreRows. The file may be gone; what was opened stays readable."""

    def __init__(self, path: Path, page_size: int) -> None:
        self._path, self._page_size = path, page_size
        # A reader that goes away may close it while a thread of its own still reads.
        self._lock = threading.Lock()
        self._source = pa.OSFile(str(path))
        try:
            self._file = pq.ParquetFile(self._source, page_checksum_verification=True)
        except BaseException:
            self._source.close()
            raise

    @property
    def count(self) -> int:
        """See ScoreRows."""
        return int(self._file.metadata.num_rows)

    @property
    def identity_version(self) -> str:
        """See ScoreRows."""
        return self.said(_IDENTITY)

    def said(self, name: str) -> str:
        """What the file says of its credits."""
        return str((self._file.metadata.metadata or {})[name.encode()].decode())

    def pages(self, skip: int = 0) -> Iterator[CreditPage]:
        """See ScoreRows."""
        begin = 0
        for number in range(self._file.num_row_groups):
            rows = self._file.metadata.row_group(number).num_rows
            if begin + rows > skip:
                yield from pages_of(self._group(number), max(0, skip - begin), self._page_size)
            begin += rows

    def parts(self) -> Iterator[bytes]:
        """See ScoreRows."""
        place = 0
        while part := self._part(place):
            place += len(part)
            yield part

    def first_day(self, column: str) -> str:
        """The earliest day of a column of times, as YYYY-MM-DD; empty without a row."""
        place = self._file.schema_arrow.get_field_index(column)
        groups = [self._file.metadata.row_group(n) for n in range(self._file.num_row_groups)]
        known = [group.column(place).statistics.min for group in groups if group.num_rows]
        return min(known).date().isoformat() if known else ""

    def close(self) -> None:
        """See ScoreRows."""
        with self._lock:
            self._file.close()
            self._source.close()

    def _part(self, place: int) -> bytes:
        with self._lock:
            self._source.seek(place)
            return bytes(self._source.read(PART_BYTES))

    def _group(self, number: int) -> pa.Table:
        try:
            with self._lock:
                return self._file.read_row_group(number, use_threads=False)
        except (OSError, pa.ArrowInvalid) as error:
            with suppress(OSError):
                self._path.unlink(missing_ok=True)
            raise unavailable(
                "STORAGE_UNAVAILABLE", "kept credits are damaged; they are computed again"
            ) from error


@dataclass(frozen=True, slots=True)
class ScoresRoom:
    """Where credits are kept, how much of them, and how many a page has."""

    folder: Path
    lake: Path
    most_bytes: int
    page_size: int


class KeptScoreFiles:
    """See KeptScores. Several processes may use one folder.

    A file is written beside its place and put there whole. Its name holds what was erased from the
    event tables before its credits were read: it is found as long as nothing else was. One that is
    being written is locked, so that what a process left that ended is known.
    """

    def __init__(self, room: ScoresRoom, is_report: IsReport) -> None:
        self._room, self._is_report = room, is_report
        self._live = LiveDays(room.lake)
        self._lock = threading.Lock()

    def find(self, key: ScoresKey) -> ScoreRows | None:
        """See KeptScores."""
        mark = erased_so_far(self._room.lake)
        # What cannot be removed is not found all the same, and the upkeep says so.
        with suppress(OSError):
            self._forget_erased(mark)
        path = self._path(key, mark)
        opened = self._opened(path)
        if opened is None:
            return None
        if self._removed(opened):
            opened.close()
            return None
        with suppress(OSError):
            path.touch()
        return opened

    def keep(self, key: ScoresKey, compute: Callable[[], Credits]) -> ScoreRows:
        """See KeptScores."""
        said = {_PROJECT: key.project, _REPORT: key.report_id, _DIGEST: key.digest}
        # Before events are read: what is erased meanwhile is not in the name.
        path = self._path(key, erased_so_far(self._room.lake))
        return self._written(compute, said, path)

    def spool(self, compute: Callable[[], Credits]) -> ScoreRows:
        """See KeptScores."""
        return self._written(compute, {}, None)

    def forget_removed(self) -> None:
        """Remove what may hold something that was erased or removed from the event tables, what
        is of no report any more, and what a process left that ended while it wrote.
        """
        for path in self._room.folder.glob(f"*{_NEW}"):
            _remove_abandoned(path)
        self._forget_erased(erased_so_far(self._room.lake))
        for path in self._room.folder.glob(f"*{_KEPT}"):
            opened = self._opened(path)
            if opened is None:
                continue
            if self._removed(opened) or not self._is_wanted(opened):
                path.unlink(missing_ok=True)
            opened.close()

    def _forget_erased(self, mark: str) -> None:
        for path in self._room.folder.glob(f"*{_KEPT}"):
            if path.suffixes[0] != f".{mark}":
                path.unlink(missing_ok=True)

    def _written(
        self, compute: Callable[[], Credits], said: dict[str, str], path: Path | None
    ) -> ScoreRows:
        credits_ = compute()
        said = said | {_IDENTITY: credits_.identity_version}
        folder = self._folder()
        try:
            with tempfile.NamedTemporaryFile(dir=folder, suffix=_NEW, delete=False) as file:
                written = Path(file.name)
                try:
                    fcntl.flock(file, fcntl.LOCK_EX)
                    write_parquet(file, credits_.pages, said)
                    file.flush()
                    opened = ScoreFile(written, self._room.page_size)
                    if path and folder and _size(written) <= self._room.most_bytes:
                        written.replace(path)
                        self._make_room()
                finally:
                    written.unlink(missing_ok=True)
        except OSError as error:
            if error.errno not in _FULL:
                raise
            raise overloaded(
                "the disk has no room for the credits; ask the operator", _FULL_RETRY_S
            ) from error
        return opened

    def _folder(self) -> Path | None:
        """Where to write; None, which is the folder for spilling, where nothing can be kept."""
        try:
            self._room.folder.mkdir(parents=True, exist_ok=True)
        except OSError:
            return None
        return self._room.folder if os.access(self._room.folder, os.W_OK) else None

    def _make_room(self) -> None:
        """Remove what was used longest ago. What a reader has open it reads to the end."""
        with self._lock:
            files = [(path, path.stat()) for path in self._room.folder.glob(f"*{_KEPT}")]
            total = sum(stat.st_size for _, stat in files)
            for path, stat in sorted(files, key=lambda one: one[1].st_mtime_ns):
                if total <= self._room.most_bytes:
                    break
                path.unlink(missing_ok=True)
                total -= stat.st_size

    def _opened(self, path: Path) -> ScoreFile | None:
        try:
            return ScoreFile(path, self._room.page_size)
        except FileNotFoundError:
            return None
        except (OSError, pa.ArrowInvalid):
            _LOG.warning("kept credits cannot be used", exc_info=True)
            with suppress(OSError):
                path.unlink(missing_ok=True)
            return None

    def _removed(self, opened: ScoreFile) -> bool:
        """Whether the tables begin later than the credits: retention removed days of theirs."""
        for table, column in _TIMES.items():
            first = opened.first_day(column)
            if first and first < min(self._live.of(table, opened.said(_PROJECT)), default="~"):
                return True
        return False

    def _is_wanted(self, opened: ScoreFile) -> bool:
        try:
            return self._is_report(
                opened.said(_PROJECT), opened.said(_REPORT), opened.said(_DIGEST)
            )
        except DomainError as error:
            # A store that is away says nothing of its reports.
            if error.code is not Code.UNAVAILABLE:
                raise
            return True

    def _path(self, key: ScoresKey, mark: str) -> Path:
        parts = (FORMAT, key.project, key.report_id, key.digest, key.result)
        name = hashlib.sha256(repr(parts).encode()).hexdigest()[:32]
        return self._room.folder / f"{name}.{mark}{_KEPT}"


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _remove_abandoned(path: Path) -> None:
    """Remove a file that nobody writes any more. A new one may not be locked yet."""
    try:
        handle = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return
    try:
        if time.time() - os.fstat(handle).st_mtime < NEW_S:
            return
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return
    else:
        path.unlink(missing_ok=True)
    finally:
        os.close(handle)
