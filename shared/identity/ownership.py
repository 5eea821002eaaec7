"""What is asked of events: those of which units."""

from dataclasses import dataclass

import pyarrow as pa

from shared.identity.belonging import Stitching
from shared.identity.identity import Identity
from shared.lake.layout import unit_key


@dataclass(frozen=True, slots=True)
class Ownership:
    """To which units of a type events belong.

    `merged`: units of the type that are one identity count as the first seen of them. Otherwise
    they stay apart, and an event that could be of several of them is nobody's. `as_key`: units
    are given by their unit_key, not by their id; only for units that stay apart.
    """

    unit_type: str
    identity: Identity
    stitching: Stitching = Stitching.RETROACTIVE
    merged: bool = False
    as_key: bool = False

    @property
    def column(self) -> str:
        """The column that names the unit."""
        return "unit_key" if self.as_key else "unit_id"

    @property
    def type(self) -> pa.DataType:
        """The type of that column."""
        return pa.int64() if self.as_key else pa.string()

    def value(self, unit_id: str) -> str | int:
        """A unit of the type as that column names it."""
        return unit_key(self.unit_type, unit_id) if self.as_key else unit_id
