"""Whom a decision is about: ids, attributes and the time."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from touchstone_assignment.bucketing import unit_bytes

if TYPE_CHECKING:
    from touchstone_assignment.decision import Decision

_NOTHING: Mapping[str, object] = MappingProxyType({})


class Subject:
    """One unit with its ids by type, what targeting may read of it, and the time in seconds.

    It remembers what it was asked, so make one for each unit and moment, and change nothing of it.
    A plain class: a frozen one takes longer to make than to decide about.
    """

    __slots__ = ("attributes", "decided", "ids", "now_s", "unit_bytes", "unit_type")

    def __init__(
        self,
        ids: Mapping[str, str],
        attributes: Mapping[str, object] = _NOTHING,
        now_s: float = 0.0,
    ) -> None:
        self.ids = ids
        self.attributes = attributes
        self.now_s = now_s
        """Seconds since 1970-01-01 UTC."""
        self.unit_type: str | None = None
        """The type of the id that was asked for last; None before the first."""
        self.unit_bytes: bytes
        """The bytes that end the keys of that id."""
        self.decided: dict[Callable[[Subject], Decision], Decision] | None = None
        """What experiments that others need decided about it; None before the first."""

    def unit(self, unit_type: str) -> bytes | None:
        """The bytes that end the keys of its id of this type (`unit_bytes`); None without one.

        ValueError when the id cannot be a key.
        """
        # Most subjects are asked for one type over and over; the compiler interns its names.
        if unit_type is self.unit_type:
            return self.unit_bytes
        unit_id = self.ids.get(unit_type)
        if unit_id is None:
            return None
        # The common case of `unit_bytes` once more: a call is a tenth of a decision.
        if unit_id.isascii() and unit_id.isprintable() and "%" not in unit_id and unit_id:
            unit = unit_id.encode()
        else:
            unit = unit_bytes(unit_id)
        self.unit_type, self.unit_bytes = unit_type, unit
        return unit
