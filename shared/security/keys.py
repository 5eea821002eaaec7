"""API keys: `ts_<key id>_<secret>`, stored as a hash, valid for one project.

The key id is readable and names the key everywhere; the secret has 160 random bits and is shown
once. A hash without salt or stretching is enough for a secret of that size.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import re
from collections.abc import Collection
from dataclasses import dataclass, replace

import sqlalchemy as sa

from shared import errors
from shared.ids import IdGenerator
from shared.security.caller import Caller, Role
from shared.state.paging import Page
from shared.state.platform import api_keys, projects

_PATTERN = re.compile(r"ts_([0-9a-z]{10})_([0-9a-z]{32})")
_KEY_ID_CHARACTERS = 10
_SECRET_CHARACTERS = 32
_KEYS_A_QUERY = 500
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_PROJECT_PATTERN = re.compile(r"[a-z][a-z0-9-]{0,62}")


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as it is stored. Times are UTC; None means never."""

    key_id: str
    project: str
    display_name: str
    roles: frozenset[Role]
    secret_hash: bytes
    create_time: dt.datetime
    expire_time: dt.datetime | None = None
    revoke_time: dt.datetime | None = None

    def refusal(self, now: dt.datetime) -> str | None:
        """Why the key is no longer good, or None while it is."""
        if self.revoke_time is not None:
            return "the key was revoked"
        if self.expire_time is not None and self.expire_time <= now:
            return "the key has expired"
        return None


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that was just made, with the one sight of its full text."""

    key: ApiKey
    text: str


def split_key(text: str) -> tuple[str, bytes] | None:
    """The key id and the hash of the secret of a presented key; None when it has no such form."""
    match = _PATTERN.fullmatch(text)
    if match is None:
        return None
    return match.group(1), _hash(match.group(2))


def authenticate(key: ApiKey, secret_hash: bytes, now: dt.datetime) -> Caller | str:
    """The caller that a presented secret stands for, or why it does not. Constant in time."""
    if not hmac.compare_digest(key.secret_hash, secret_hash):
        return "the secret does not fit the key"
    return key.refusal(now) or Caller(key.project, key.key_id, key.roles)


def make_key(
    ids: IdGenerator,
    project: str,
    display_name: str,
    roles: frozenset[Role],
    now: dt.datetime,
    expire_time: dt.datetime | None = None,
) -> NewKey:
    """A new key with 160 random bits. It is not stored yet."""
    secret = ids.new(_SECRET_CHARACTERS)
    key_id = ids.new(_KEY_ID_CHARACTERS)
    key = ApiKey(key_id, project, display_name, roles, _hash(secret), now, expire_time)
    return NewKey(key, f"ts_{key_id}_{secret}")


class SqlKeyStore:
    """Keys and projects within one transaction of the state database."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def add_project(self, project: str, now: dt.datetime) -> None:
        """Makes a project. Raises INVALID_ARGUMENT for a bad id, ALREADY_EXISTS for a taken one."""
        if not _PROJECT_PATTERN.fullmatch(project):
            raise errors.invalid("project", project, "a-z, then up to 62 of a-z, 0-9 and '-'")
        if self.has_project(project):
            raise errors.already_exists("project", project)
        self._connection.execute(sa.insert(projects).values(project=project, create_time=now))

    def has_project(self, project: str) -> bool:
        """Whether the project exists."""
        query = sa.select(projects.c.project).where(projects.c.project == project)
        return self._connection.execute(query).first() is not None

    def add(self, key: ApiKey) -> None:
        """Stores a new key."""
        self._connection.execute(
            sa.insert(api_keys).values(
                key_id=key.key_id,
                project=key.project,
                display_name=key.display_name,
                secret_hash=key.secret_hash,
                roles=",".join(sorted(role.name for role in key.roles)),
                create_time=key.create_time,
                expire_time=key.expire_time,
                revoke_time=key.revoke_time,
            )
        )

    def find(self, key_id: str) -> ApiKey | None:
        """The key with this id, of whatever project, or None. For authentication only."""
        query = sa.select(api_keys).where(api_keys.c.key_id == key_id)
        row = self._connection.execute(query).one_or_none()
        return None if row is None else _key(row)

    def find_all(self, key_ids: Collection[str]) -> list[ApiKey]:
        """Those of these keys that there are, of whatever project. For authentication only."""
        wanted, found = sorted(key_ids), []
        for start in range(0, len(wanted), _KEYS_A_QUERY):
            some = api_keys.c.key_id.in_(wanted[start : start + _KEYS_A_QUERY])
            found += [
                _key(row) for row in self._connection.execute(sa.select(api_keys).where(some))
            ]
        return found

    def get(self, project: str, key_id: str) -> ApiKey:
        """The project's key. Raises NOT_FOUND."""
        key = self.find(key_id)
        if key is None or key.project != project:
            raise errors.not_found("key", key_id)
        return key

    def page(self, project: str, page: Page) -> tuple[list[ApiKey], str]:
        """Keys of the project, newest first, and the token of the next page."""
        query = sa.select(api_keys).where(api_keys.c.project == project)
        place = page.place(r"([0-9]{1,17}):([0-9a-z]{10})")
        if place is not None:
            microseconds, key_id = place
            made = _EPOCH + dt.timedelta(microseconds=int(microseconds))
            older = api_keys.c.create_time < made
            tied = (api_keys.c.create_time == made) & (api_keys.c.key_id < key_id)
            query = query.where(older | tied)
        rows = self._connection.execute(
            query.order_by(api_keys.c.create_time.desc(), api_keys.c.key_id.desc()).limit(
                page.size + 1
            )
        )
        found = [_key(row) for row in rows]
        keys = found[: page.size]
        return keys, page.token(_sort_key(keys[-1])) if len(found) > page.size else ""

    def revoke(self, project: str, key_id: str, now: dt.datetime) -> ApiKey:
        """Revokes the project's key; one that is revoked stays as it was. Raises NOT_FOUND."""
        key = self.get(project, key_id)
        if key.revoke_time is not None:
            return key
        self._connection.execute(
            sa.update(api_keys).where(api_keys.c.key_id == key_id).values(revoke_time=now)
        )
        return replace(key, revoke_time=now)


def _sort_key(key: ApiKey) -> str:
    return f"{(key.create_time - _EPOCH) // dt.timedelta(microseconds=1)}:{key.key_id}"


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def _key(row: sa.Row[tuple[object, ...]]) -> ApiKey:
    fields = row._mapping  # noqa: SLF001  SQLAlchemy's documented name
    return ApiKey(
        key_id=fields["key_id"],
        project=fields["project"],
        display_name=fields["display_name"],
        roles=frozenset(Role[name] for name in fields["roles"].split(",")),
        secret_hash=bytes(fields["secret_hash"]),
        create_time=fields["create_time"],
        expire_time=fields["expire_time"],
        revoke_time=fields["revoke_time"],
    )
