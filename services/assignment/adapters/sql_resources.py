"""Versioned resources of any kind in SQL: the current one, and every version that it ever had."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from services.assignment.adapters.tables import RESOURCE_VERSIONS, RESOURCES
from services.assignment.domain.resource import Resource
from services.assignment.domain.revision import Revision
from shared import errors

R = TypeVar("R", bound=Resource)

FORMAT = 1
_NOW = RESOURCES.c
_KEPT = RESOURCE_VERSIONS.c


@dataclass(frozen=True, slots=True)
class Codec(Generic[R]):
    """How resources of one kind are stored.

    `kind` is the name in the tables, `noun` the one in messages. `to_fields` gives what a resource
    has beyond the fields of Resource, as JSON; `from_fields` makes the arguments of `make` of it.
    """

    kind: str
    noun: str
    to_fields: Callable[[R], Mapping[str, Any]]
    from_fields: Callable[[Mapping[str, Any]], Mapping[str, Any]]
    make: Callable[..., R]

    def dump(self, resource: R) -> str:
        """The document, as canonical JSON."""
        document = {"format": FORMAT, **self.to_fields(resource)}
        return json.dumps(document, sort_keys=True, separators=(",", ":"))

    def load(self, row: sa.Row[Any]) -> R:
        """The resource of a row; FAILED_PRECONDITION when a newer program wrote it."""
        document = json.loads(row.document)
        if document["format"] > FORMAT:
            raise errors.failed_precondition(
                "NEWER_VERSION",
                f"{self.noun} {row.resource_id!r} is stored in format {document['format']}; this "
                f"program reads up to {FORMAT}; run the newer version",
            )
        return self.make(
            project=row.project,
            resource_id=row.resource_id,
            config_version=row.config_version,
            create_time=row.create_time,
            **self.from_fields(document),
        )


class SqlResourceStore(Generic[R]):
    """ResourceStore of one kind over one connection."""

    def __init__(self, connection: sa.Connection, codec: Codec[R]) -> None:
        self._connection = connection
        self._codec = codec

    def get(self, project: str, resource_id: str) -> R | None:
        """See ResourceStore."""
        row = self._connection.execute(
            sa.select(RESOURCES).where(*self._key(project, resource_id))
        ).first()
        return None if row is None else self._codec.load(row)

    def insert(self, resource: R) -> None:
        """See ResourceStore."""
        try:
            self._connection.execute(sa.insert(RESOURCES).values(self._row(resource)))
        except IntegrityError as error:
            raise errors.already_exists(self._codec.noun, resource.resource_id) from error
        self._keep_version(resource, resource.config_version)

    def replace(self, old: R, new: R) -> None:
        """See ResourceStore."""
        result = self._connection.execute(
            sa.update(RESOURCES)
            .where(
                *self._key(old.project, old.resource_id),
                _NOW.config_version == old.config_version,
            )
            .values(self._row(new))
        )
        self._require_one(result.rowcount, old)
        self._keep_version(new, new.config_version)

    def delete(self, old: R, at: Revision) -> None:
        """See ResourceStore."""
        result = self._connection.execute(
            sa.delete(RESOURCES).where(
                *self._key(old.project, old.resource_id),
                _NOW.config_version == old.config_version,
            )
        )
        self._require_one(result.rowcount, old)
        self._keep_version(old, at.config_version, deleted=True)

    def page(self, project: str, after: str, limit: int) -> Sequence[R]:
        """See ResourceStore."""
        rows = self._connection.execute(
            sa.select(RESOURCES)
            .where(
                _NOW.project == project,
                _NOW.kind == self._codec.kind,
                _NOW.resource_id > after,
            )
            .order_by(_NOW.resource_id)
            .limit(limit)
        )
        return [self._codec.load(row) for row in rows]

    def all_now(self, project: str) -> Mapping[str, R]:
        """See ResourceStore."""
        rows = self._connection.execute(
            sa.select(RESOURCES)
            .where(_NOW.project == project, _NOW.kind == self._codec.kind)
            .order_by(_NOW.resource_id)
        )
        return self._by_id(rows)

    def all_as_of(self, project: str, config_version: int) -> Mapping[str, R]:
        """See ResourceStore."""
        of_kind = (_KEPT.project == project, _KEPT.kind == self._codec.kind)
        last = (
            sa.select(_KEPT.resource_id, sa.func.max(_KEPT.config_version).label("version"))
            .where(*of_kind, _KEPT.config_version <= config_version)
            .group_by(_KEPT.resource_id)
            .subquery()
        )
        rows = self._connection.execute(
            sa.select(RESOURCE_VERSIONS)
            .join(
                last,
                sa.and_(
                    _KEPT.resource_id == last.c.resource_id,
                    _KEPT.config_version == last.c.version,
                ),
            )
            .where(*of_kind, sa.not_(_KEPT.deleted))
            .order_by(_KEPT.resource_id)
        )
        return self._by_id(rows)

    def _by_id(self, rows: Iterable[sa.Row[Any]]) -> dict[str, R]:
        return {row.resource_id: self._codec.load(row) for row in rows}

    def _key(self, project: str, resource_id: str) -> tuple[sa.ColumnElement[bool], ...]:
        return (
            _NOW.project == project,
            _NOW.kind == self._codec.kind,
            _NOW.resource_id == resource_id,
        )

    def _row(self, resource: R) -> dict[str, object]:
        return {
            "project": resource.project,
            "kind": self._codec.kind,
            "resource_id": resource.resource_id,
            "config_version": resource.config_version,
            "create_time": resource.create_time,
            "document": self._codec.dump(resource),
        }

    def _require_one(self, changed: int, old: R) -> None:
        if changed != 1:
            current = self.get(old.project, old.resource_id)
            raise errors.stale_etag(
                f"{self._codec.noun} {old.resource_id}",
                old.etag,
                current.etag if current else "none",
            )

    def _keep_version(self, resource: R, version: int, *, deleted: bool = False) -> None:
        values = self._row(resource) | {"config_version": version, "deleted": deleted}
        self._connection.execute(sa.insert(RESOURCE_VERSIONS).values(values))
