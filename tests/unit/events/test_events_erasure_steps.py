"""An erasure that is cut off after any call of a store goes on to the same end."""

import datetime as dt
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from services.events.adapters.erased_pending import PendingErasures
from services.events.application.erase_units import Eraser, Run, target_of
from services.events.domain.erasure import Erasing, Searched, Step, Target, Unit
from shared.security.audit import AuditKeys
from shared.security.erasure_ledger import ErasureLedger, ErasureRecord
from shared.testing.fakes import FixedClock

NOW = dt.datetime(2026, 6, 1, tzinfo=dt.UTC)
GRACE = dt.timedelta(hours=1)
Save = Callable[[Sequence[Target]], None]


class Crash(BaseException):
    """The process ends here."""


@dataclass
class MemoryStores:
    """See ErasureStores. It crashes before or after the call of this number."""

    crash_at: int = -1
    rows: int = 4
    late_rows: int = 0
    rejected: int = 2
    stale: int = 3
    scrubbed: bool = False
    marked: set[str] = field(default_factory=set)
    calls: int = 0

    def _call(self) -> None:
        self.calls += 1
        if self.calls == self.crash_at:
            raise Crash

    def flush(self, wait: Callable[[float], None]) -> None:
        self._call()

    def recognise(self, project: str, targets: Sequence[Target]) -> list[Target]:
        self._call()
        return [replace(one, unit=Unit("user", "u1")) for one in targets]

    def erase_rows(self, project: str, targets: Sequence[Target], save: Save) -> list[Target]:
        self._call()
        done = list(targets)
        while self.rows:
            self.rows -= 1
            done[0] = done[0].deleted("conversions", 1, 1, 2)
            save(done)
            self._call()
        return done

    def erase_rejected(self, project: str, targets: Sequence[Target], save: Save) -> list[Target]:
        self._call()
        done = [replace(targets[0], rejected_events=targets[0].rejected_events + self.rejected)]
        self.rejected = 0
        save(done)
        self._call()
        return done

    def scrub(self) -> None:
        self._call()
        self.scrubbed = True
        self._call()

    def reflected(self) -> frozenset[str]:
        return frozenset(self.marked)

    def mark(self, erasures: Collection[str]) -> None:
        self._call()
        assert (self.rows, self.rejected, self.scrubbed) == (0, 0, True), "marked too early"
        self.marked |= set(erasures)
        self._call()

    def remove_replaced(
        self, project: str, targets: Sequence[Target], grace: dt.timedelta
    ) -> tuple[list[Target], dt.timedelta | None]:
        self._call()
        removed, self.stale = self.stale, 0
        self._call()
        return [replace(targets[0], files_removed=targets[0].files_removed + removed)], None

    def search(self, project: str, targets: Sequence[Target]) -> Searched:
        self._call()
        self.rows, self.late_rows = self.rows + self.late_rows, 0
        return Searched(files=9, rows=self.rows, bytes_found=0)


class Bench:
    def __init__(self, folder: Path, stores: MemoryStores) -> None:
        self.folder = folder
        self.stores = stores
        self.clock = FixedClock(NOW)
        self.reflected: list[str] = []
        self.steps: list[Step] = []
        self.open()
        digest = self.ledger.digest("acme", "user", "u1")
        self.record = ErasureRecord("acme", "era", digest.hex(), 1)
        target = replace(target_of(self.record), unit=Unit("user", "u1"))
        self.eraser.pending.save("era", Erasing((target,)))
        self.ledger.add_tombstone(self.record, NOW)

    def open(self) -> None:
        """What a start of the service does."""
        self.ledger = ErasureLedger(self.folder, AuditKeys((b"k" * 32,)))
        self.eraser = Eraser(
            self.stores,
            self.ledger,
            PendingErasures(self.folder / "pending"),
            self.clock,
            GRACE,
            self.reflected.extend,
        )

    def crash(self) -> None:
        self.ledger.close()
        self.open()

    def run(self) -> None:
        """As the runner does: again when it is time."""
        for _ in range(10):
            try:
                self.eraser.run(
                    Run("acme", "era", self._wait, lambda e: self.steps.append(e.step), self._later)
                )
            except _Later as later:
                self.clock.advance(later.until - self.clock.now())
            else:
                return
        raise AssertionError("it never ends")

    def _wait(self, seconds: float) -> None:
        """Nothing happens meanwhile."""

    def _later(self, until: dt.datetime) -> None:
        raise _Later(until)


class _Later(Exception):  # noqa: N818  nothing is wrong
    def __init__(self, until: dt.datetime) -> None:
        self.until = until


def test_steps_come_in_their_order_and_readers_get_their_time(tmp_path) -> None:
    bench = Bench(tmp_path, MemoryStores())
    bench.run()
    assert bench.steps == [
        Step.DELETING,
        Step.WAITING_FOR_READERS,
        Step.WAITING_FOR_READERS,
    ]
    assert bench.clock.now() - NOW == GRACE
    found = bench.ledger.get("acme", "era")
    assert found is not None
    assert found.proof is not None
    assert found.proof["tables"]["conversions"]["rows"] == 4
    assert (found.proof["rejected_events"], found.proof["files_removed"]) == (2, 3)
    assert bench.reflected == ["era"]
    assert list((tmp_path / "pending").iterdir()) == []


@pytest.mark.parametrize("crash_at", range(1, 18))
def test_crash_at_any_call_leads_to_the_same_end(tmp_path, crash_at: int) -> None:
    stores = MemoryStores(crash_at)
    bench = Bench(tmp_path, stores)
    for _ in range(2):
        try:
            bench.run()
            break
        except Crash:
            bench.crash()
    found = bench.ledger.get("acme", "era")
    assert found is not None
    assert found.proof is not None, "no proof"
    assert (stores.rows, stores.rejected, stores.stale) == (0, 0, 0)
    assert stores.marked == {"era"}
    assert found.proof["tables"]["conversions"]["rows"] <= 4
    assert list((tmp_path / "pending").iterdir()) == []


def test_what_slipped_in_is_erased_before_there_is_a_proof(tmp_path) -> None:
    stores = MemoryStores(late_rows=1)
    bench = Bench(tmp_path, stores)
    bench.run()
    found = bench.ledger.get("acme", "era")
    assert found is not None
    assert found.proof is not None
    assert found.proof["rows_found"] == 0
    assert found.proof["tables"]["conversions"]["rows"] == 5
    assert bench.clock.now() - NOW == 2 * GRACE


def test_without_what_was_kept_it_goes_by_the_digest(tmp_path) -> None:
    bench = Bench(tmp_path, MemoryStores())
    bench.eraser.pending.forget("era")
    bench.run()
    found = bench.ledger.get("acme", "era")
    assert found is not None
    assert found.proof is not None


def test_kept_ids_are_for_the_owner_only_and_leave_nothing(tmp_path) -> None:
    pending = PendingErasures(tmp_path / "pending")
    target = Target("era", b"\1" * 16, 5, Unit("user", "geheim")).deleted("exposures", 3, 1, 2)
    erasing = Erasing((target,), Step.WAITING_FOR_READERS, 17)
    pending.save("op", erasing)
    pending.save("op", replace(erasing, resume_us=18))
    assert pending.load("op") == replace(erasing, resume_us=18)
    (path,) = (tmp_path / "pending").iterdir()
    assert path.stat().st_mode & 0o077 == 0
    handle = path.open("rb")
    pending.forget("op")
    assert b"geheim" not in handle.read(), "the bytes of a removed file are overwritten"
    handle.close()
    assert pending.load("op") is None
    assert pending.operations() == []
    pending.forget("op")
