"""What a cut of the event log has lost since it was read first."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Removed:
    """Rows of a project that were in a cut and are no more: erased, or removed by retention.

    `unknown`: nobody read results at the cut while it was the newest, or too long ago, so that
    nothing says what it held.
    """

    exposures: int
    conversions: int
    unknown: bool = False

    @property
    def any(self) -> bool:
        """Whether there are any."""
        return self.exposures > 0 or self.conversions > 0


UNKNOWN = Removed(0, 0, unknown=True)


@dataclass(frozen=True, slots=True)
class Rows:
    """How many rows of a project a cut holds."""

    exposures: int
    conversions: int

    def without(self, held: "Rows") -> Removed:
        """What is there no more."""
        gone = (self.exposures - held.exposures, self.conversions - held.conversions)
        return Removed(max(gone[0], 0), max(gone[1], 0))
