"""What a compiled part was made from, so that an equal one is taken over and not made again."""

import operator
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from google.protobuf.message import Message


@dataclass(frozen=True, slots=True)
class Origin:
    """The bytes of rules, and the compiled parts that they were put together with."""

    rules: tuple[bytes, ...]
    parts: tuple[object, ...] = ()

    def same(self, other: "Origin") -> bool:
        """Whether the same would come of both: equal rules with the very same parts."""
        return (
            self.rules == other.rules
            and len(self.parts) == len(other.parts)
            and all(map(operator.is_, self.parts, other.parts))
        )


class Compiled(Protocol):
    """Anything that knows what it was made from."""

    @property
    def origin(self) -> Origin:
        """What it was made from."""
        ...


C = TypeVar("C", bound=Compiled)


def origin_of(rules: Iterable["Message"], parts: Iterable[object] = ()) -> Origin:
    """The origin of what is made from these rules and parts."""
    written = tuple(rule.SerializeToString(deterministic=True) for rule in rules)
    return Origin(written, tuple(parts))


def taken_over(known: Mapping[str, C], name: str, origin: Origin) -> C | None:
    """What was made of the same before, or None."""
    old = known.get(name)
    return old if old is not None and old.origin.same(origin) else None
