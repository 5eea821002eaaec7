"""How the identities of a project are made: how many ids of each type one of them may hold."""

import datetime as dt
from dataclasses import dataclass

from shared.errors import invalid

MAX_LIMIT = 1_000
MAX_RANK = 1_000
MAX_ID_TYPES = 64
MAX_BLOCKED_IDS = 256
DEFAULT_LIMIT = 5

BLOCKED_BY_DEFAULT = (
    *("(not set)", "-1", "anonymous", "guest", "n/a", "nan", "nil"),
    *("none", "not set", "null", "undefined", "unknown"),
)


@dataclass(frozen=True, slots=True)
class IdType:
    """What holds for one type of id.

    One identity holds at most `limit` of them, 0 meaning the default of the policy; the canonical
    unit is of the highest `rank`.
    """

    name: str
    limit: int
    rank: int = 0


@dataclass(frozen=True, slots=True)
class IdentityPolicy:
    """The rules of a project. Types that are not named have `default_limit` and rank 0.

    `blocked_ids` never link, whatever their type; they are lower case without blanks around them.
    An id of nothing but zeros and hyphens, such as the UUID of zeros, never links either.
    """

    id_types: tuple[IdType, ...] = (
        IdType("customer", 1, 3),
        IdType("login", 1, 1),
        IdType("user", 1, 2),
    )
    default_limit: int = DEFAULT_LIMIT
    blocked_ids: tuple[str, ...] = BLOCKED_BY_DEFAULT

    def __post_init__(self) -> None:
        names = [one.name for one in self.id_types]
        if len(names) > MAX_ID_TYPES or len(self.blocked_ids) > MAX_BLOCKED_IDS:
            raise invalid(
                "policy",
                f"{len(names)} types and {len(self.blocked_ids)} blocked ids",
                f"at most {MAX_ID_TYPES} types and {MAX_BLOCKED_IDS} blocked ids",
            )
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise invalid("policy.id_types", twice, "each type once")
        for one in self.id_types:
            _require_between("policy.id_types.limit", one.limit, 0, MAX_LIMIT)
            _require_between("policy.id_types.rank", one.rank, 0, MAX_RANK)
        _require_between("policy.default_limit", self.default_limit, 1, MAX_LIMIT)
        ids = {blocked.strip().lower() for blocked in self.blocked_ids}
        object.__setattr__(self, "blocked_ids", tuple(sorted(ids)))
        in_order = sorted(self.id_types, key=lambda one: one.name)
        object.__setattr__(self, "id_types", tuple(in_order))

    def limit(self, id_type: str) -> int:
        """How many ids of a type one identity may hold."""
        own = next((t.limit for t in self.id_types if t.name == id_type), 0)
        return own or self.default_limit

    def rank(self, id_type: str) -> int:
        """How a type ranks among the others."""
        return next((t.rank for t in self.id_types if t.name == id_type), 0)


def _require_between(field: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise invalid(field, value, f"{least} to {most}")


DEFAULT_POLICY = IdentityPolicy()


@dataclass(frozen=True, slots=True)
class StoredPolicy:
    """A version of a project's policy. Version 0 is the default, which nobody made."""

    policy: IdentityPolicy = DEFAULT_POLICY
    version: int = 0
    create_time: dt.datetime | None = None

    @property
    def etag(self) -> str:
        """Differs between any two versions."""
        return str(self.version)
