"""The events service, and a reader that takes the files of a folder for those of the table."""

from __future__ import annotations

from pathlib import Path

from shared.lake.held import HeldFile
from shared.lake.snapshot import LakeEventTables, LakeSnapshot
from tests.robustness.twins.replaced import serve


class FolderSnapshot(LakeSnapshot):
    """Reads whatever lies there."""

    def _files(self, name: str) -> list[HeldFile]:
        folder: Path = self.lake / name / f"project={self.project}"
        return [HeldFile(file, 1, 2**63 - 1) for file in folder.rglob("*.parquet")]


class FolderTables(LakeEventTables):
    """Shows such snapshots."""

    def snapshot(self, project: str) -> LakeSnapshot:
        right = super().snapshot(project)
        assert isinstance(right, LakeSnapshot)
        return FolderSnapshot(right.lake, right.project, right.watermark, right.limits)


if __name__ == "__main__":
    serve()
