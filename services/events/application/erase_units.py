"""Erase units: delete what mentions them, let readers finish, remove the files, prove it.

Each step may be cut off anywhere and is then done again from its beginning: it deletes what it
finds, so that there is nothing to undo and nothing is counted as done that is not.
"""

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

from services.events.domain.erasure import Erasing, Searched, Step, Target
from services.events.domain.limits import MICROSECONDS
from services.events.ports import ErasureStores
from shared.clock import Clock
from shared.errors import not_found
from shared.resource_names import resource_name
from shared.security.erasure_ledger import ErasureLedger, ErasureRecord

COLLECTION = "erasures"


class Pending(Protocol):
    """Keeps what an erasure needs to go on after a crash, the plain id among it."""

    def save(self, operation_id: str, erasing: Erasing) -> None:
        """Keep it; durable on return."""

    def load(self, operation_id: str) -> Erasing | None:
        """What was saved last, or None."""

    def forget(self, operation_id: str) -> None:
        """Leave no byte of it."""

    def operations(self) -> list[str]:
        """The operations that something is kept for."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run of the work on an operation. `wait` sleeps some seconds and raises at the end of the
    service; `report` tells callers how far the work is; `postpone` ends the run until a time.
    """

    project: str
    operation_id: str
    wait: Callable[[float], None]
    report: Callable[[Erasing], None]
    postpone: Callable[[dt.datetime], None]


@dataclass(frozen=True, slots=True)
class Eraser:
    """What erasing needs. `grace` is how long readers may hold what was replaced."""

    stores: ErasureStores
    ledger: ErasureLedger
    pending: Pending
    clock: Clock
    grace: dt.timedelta
    reflected: Callable[[Sequence[str]], None]
    """Told of erasures that no reader who begins now sees anything of."""

    def run(self, run: Run) -> None:
        """Do what is left of an operation, to the proof."""
        erasing = self.pending.load(run.operation_id) or self._from_ledger(run)
        while True:
            run.report(erasing)
            if erasing.step is Step.DELETING:
                erasing = self._delete(run, erasing)
                run.report(erasing)
            if self._now_us() < erasing.resume_us:
                run.postpone(_time(erasing.resume_us))
            erasing = self._remove(run, replace(erasing, step=Step.PROVING))
            if erasing.step is Step.PROVING:
                found = self.stores.search(run.project, erasing.targets)
                if not found.rows:
                    break
                # An event that was let in before the erasure and stored after its search.
                erasing = replace(erasing, step=Step.DELETING)
        self._prove(run.project, erasing, found)
        self.pending.forget(run.operation_id)

    def _from_ledger(self, run: Run) -> Erasing:
        """The state database was restored, but not what it worked on: by the digest it goes too."""
        record = self.ledger.get(run.project, run.operation_id)
        if record is None:
            name = resource_name(run.project, COLLECTION, run.operation_id)
            raise not_found("erasure", name)
        return Erasing((target_of(record),))

    def _delete(self, run: Run, erasing: Erasing) -> Erasing:
        def save(targets: Sequence[Target]) -> None:
            run.wait(0)
            self.pending.save(run.operation_id, replace(erasing, targets=tuple(targets)))

        stores, project = self.stores, run.project
        stores.flush(run.wait)
        targets = stores.recognise(project, erasing.targets)
        save(targets)
        targets = stores.erase_rows(project, targets, save)
        targets = stores.erase_rejected(project, targets, save)
        stores.scrub()
        names = [one.erasure_id for one in targets]
        stores.mark(names)
        self.reflected(names)
        resume_us = self._now_us() + int(self.grace.total_seconds() * MICROSECONDS)
        after = Erasing(tuple(targets), Step.WAITING_FOR_READERS, resume_us)
        self.pending.save(run.operation_id, after)
        return after

    def _remove(self, run: Run, erasing: Erasing) -> Erasing:
        """With the files removed that nobody reads any more; waiting when some are too young."""
        targets, again_in = self.stores.remove_replaced(run.project, erasing.targets, self.grace)
        after = replace(erasing, targets=tuple(targets))
        if again_in is not None:
            resume_us = self._now_us() + max(0, int(again_in.total_seconds() * MICROSECONDS)) + 1
            after = replace(after, step=Step.WAITING_FOR_READERS, resume_us=resume_us)
        self.pending.save(run.operation_id, after)
        return after

    def _prove(self, project: str, erasing: Erasing, found: Searched) -> None:
        for target in erasing.targets:
            record = self.ledger.get(project, target.erasure_id)
            # What was proved already and was not found again needs no second proof.
            if record is not None and (record.proof is None or target.found_anything):
                self.ledger.add_proof(record, self._proof(target, found), self.clock.now())

    def _proof(self, target: Target, found: Searched) -> Mapping[str, Any]:
        return {
            "tables": {name: asdict(count) for name, count in target.tables.items()},
            "rejected_events": target.rejected_events,
            "files_removed": target.files_removed,
            "files_searched": found.files,
            "rows_found": found.rows,
            "bytes_found": found.bytes_found,
        }

    def _now_us(self) -> int:
        return int(self.clock.now().timestamp() * MICROSECONDS)


def target_of(record: ErasureRecord) -> Target:
    """What an erasure in the ledger is about; its unit is known by the digest only."""
    return Target(record.erasure_id, bytes.fromhex(record.unit_digest), record.moment_us)


def _time(microseconds: int) -> dt.datetime:
    return dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(microseconds=microseconds)
