"""What an erasure that is under way needs to go on after a crash: the plain ids among it.

One file an operation, for the owner only, outside of every store: it is overwritten and removed
when the operation ends, so that no store ever holds the id of who is being erased.
"""

import json
import os
from pathlib import Path

from services.events.domain.erasure import Erasing, Step, TableCount, Target, Unit


class PendingErasures:
    """The files of erasures under way."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def save(self, operation_id: str, erasing: Erasing) -> None:
        """Keep what there is to do and what was done; durable on return."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._path(operation_id)
        fields = {
            "step": erasing.step.value,
            "resume_us": erasing.resume_us,
            "targets": [_encoded(target) for target in erasing.targets],
        }
        data = json.dumps(fields).encode()
        draft = path.with_suffix(".new")
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as new:
            new.write(data)
            new.flush()
            os.fsync(new.fileno())
        before = _opened(path)
        draft.replace(path)
        if before is not None:
            _blank(before)
        self._sync()

    def load(self, operation_id: str) -> Erasing | None:
        """What was saved last, or None."""
        try:
            fields = json.loads(self._path(operation_id).read_text())
        except FileNotFoundError:
            return None
        targets = tuple(_decoded(one) for one in fields["targets"])
        return Erasing(targets, Step(fields["step"]), int(fields["resume_us"]))

    def forget(self, operation_id: str) -> None:
        """Overwrite and remove what was saved; durable on return."""
        path = self._path(operation_id)
        for left in (path.with_suffix(".new"), path):
            before = _opened(left)
            if before is not None:
                left.unlink()
                _blank(before)
        if self._folder.exists():
            self._sync()

    def operations(self) -> list[str]:
        """The operations that something is saved for."""
        return sorted(path.stem for path in self._folder.glob("*.json"))

    def _path(self, operation_id: str) -> Path:
        return self._folder / f"{operation_id}.json"

    def _sync(self) -> None:
        handle = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _opened(path: Path) -> int | None:
    try:
        return os.open(path, os.O_WRONLY)
    except FileNotFoundError:
        return None


def _blank(handle: int) -> None:
    """Overwrite a file that has no name any more."""
    try:
        os.write(handle, b"\0" * os.fstat(handle).st_size)
        os.fsync(handle)
    finally:
        os.close(handle)


def _encoded(target: Target) -> dict[str, object]:
    return {
        "erasure": target.erasure_id,
        "digest": target.digest.hex(),
        "moment_us": target.moment_us,
        "unit": list(target.unit) if target.unit else None,
        "tables": {
            name: [count.rows, count.version_before, count.version_after]
            for name, count in target.tables.items()
        },
        "rejected_events": target.rejected_events,
        "files_removed": target.files_removed,
    }


def _decoded(fields: dict[str, object]) -> Target:
    unit, tables = fields["unit"], fields["tables"]
    assert isinstance(tables, dict)
    return Target(
        erasure_id=str(fields["erasure"]),
        digest=bytes.fromhex(str(fields["digest"])),
        moment_us=int(str(fields["moment_us"])),
        unit=Unit(*unit) if isinstance(unit, list) else None,
        tables={name: TableCount(*counts) for name, counts in tables.items()},
        rejected_events=int(str(fields["rejected_events"])),
        files_removed=int(str(fields["files_removed"])),
    )
