"""Id lists in SQL: a content in chunks, so that no row is as large as the largest list."""

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa
from touchstone_assignment.conditions.id_set import FINGERPRINT_BYTES

from services.assignment.adapters.tables import METADATA
from services.assignment.ports import Upload
from shared import errors
from shared.state.database import Database
from shared.state.types import UtcTime, text

CHUNK_BYTES = 1_048_576

ID_LISTS = sa.Table(
    "assignment_id_lists",
    METADATA,
    sa.Column("project", text(64), primary_key=True),
    sa.Column("digest", text(64), primary_key=True),
    sa.Column("chunk", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("fingerprints", sa.LargeBinary, nullable=False),
)
PARTS = sa.Table(
    "assignment_upload_parts",
    METADATA,
    sa.Column("project", text(64), primary_key=True),
    sa.Column("audience_id", text(64), primary_key=True),
    sa.Column("upload_id", text(64), primary_key=True),
    sa.Column("part", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("create_time", UtcTime(), nullable=False),
    sa.Column("ids", sa.Integer, nullable=False),
    sa.Column("fingerprints", sa.LargeBinary, nullable=False),
)
_LIST = ID_LISTS.c
_PART = PARTS.c


class SqlIdListStore:
    """IdListStore over one connection."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def put_part(self, upload: Upload, part: int, fingerprints: bytes, now: datetime) -> None:
        """See IdListStore."""
        self._connection.execute(sa.delete(PARTS).where(*_of(upload), _PART.part == part))
        self._connection.execute(
            sa.insert(PARTS).values(
                project=upload.project,
                audience_id=upload.audience_id,
                upload_id=upload.upload_id,
                part=part,
                create_time=now,
                ids=len(fingerprints) // FINGERPRINT_BYTES,
                fingerprints=fingerprints,
            )
        )

    def parts(self, upload: Upload) -> Sequence[int]:
        """See IdListStore."""
        query = sa.select(_PART.part).where(*_of(upload)).order_by(_PART.part)
        return self._connection.execute(query).scalars().all()

    def part(self, upload: Upload, part: int) -> bytes:
        """See IdListStore."""
        query = sa.select(_PART.fingerprints).where(*_of(upload), _PART.part == part)
        found: bytes = self._connection.execute(query).scalar_one()
        return found

    def waiting(self, project: str) -> int:
        """See IdListStore."""
        query = sa.select(sa.func.coalesce(sa.func.sum(_PART.ids), 0))
        found: int = self._connection.execute(query.where(_PART.project == project)).scalar_one()
        return int(found)

    def forget(self, upload: Upload) -> None:
        """See IdListStore."""
        self._connection.execute(sa.delete(PARTS).where(*_of(upload)))

    def sweep(self, before: datetime) -> None:
        """See IdListStore."""
        self._connection.execute(sa.delete(PARTS).where(_PART.create_time < before))

    def put(self, project: str, digest: str, fingerprints: bytes) -> None:
        """See IdListStore."""
        there = sa.select(_LIST.chunk).where(_LIST.project == project, _LIST.digest == digest)
        if self._connection.execute(there.limit(1)).first() is not None:
            return
        # An empty list has one empty chunk: it is there.
        for chunk, start in enumerate(range(0, max(len(fingerprints), 1), CHUNK_BYTES)):
            self._connection.execute(
                sa.insert(ID_LISTS).values(
                    project=project,
                    digest=digest,
                    chunk=chunk,
                    fingerprints=fingerprints[start : start + CHUNK_BYTES],
                )
            )


class SqlIdLists:
    """IdLists over the state database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def fingerprints(self, project: str, digest: str) -> bytes:
        """See IdLists."""
        found = self._content(project, digest)
        if found is None:
            raise errors.not_found("id list", digest)
        return found

    def has(self, project: str, digest: str) -> bool:
        """Whether the project ever had the list; UNAVAILABLE when the store is away."""
        query = sa.select(_LIST.chunk).where(_LIST.project == project, _LIST.digest == digest)
        with self._database.read() as connection:
            return connection.execute(query.limit(1)).first() is not None

    def anywhere(self, digest: str) -> bytes | None:
        """See IdLists."""
        query = sa.select(_LIST.project).where(_LIST.digest == digest).limit(1)
        with self._database.read() as connection:
            project = connection.execute(query).scalar()
        return None if project is None else self._content(project, digest)

    def _content(self, project: str, digest: str) -> bytes | None:
        query = (
            sa.select(_LIST.fingerprints)
            .where(_LIST.project == project, _LIST.digest == digest)
            .order_by(_LIST.chunk)
        )
        with self._database.read() as connection:
            chunks = connection.execute(query).scalars().all()
        return b"".join(chunks) if chunks else None


def _of(upload: Upload) -> tuple[sa.ColumnElement[bool], ...]:
    return (
        _PART.project == upload.project,
        _PART.audience_id == upload.audience_id,
        _PART.upload_id == upload.upload_id,
    )
