"""A holdout: units that are kept out of experiments, to measure what all of them did together."""

from dataclasses import dataclass
from datetime import datetime

from touchstone_assignment.bucketing import HashVersion

from services.assignment.domain.resource import Resource


@dataclass(frozen=True, slots=True)
class Holdout(Resource):
    """Holds out the units of one type whose bucket of 10,000 is below `slots`.

    It covers the experiments of `layers` and those in `experiments`; with both empty every
    experiment of its unit type. Share and salt are fixed, so that nobody enters or leaves it.
    """

    unit_type: str
    slots: int
    salt: str
    hash_version: HashVersion
    layers: tuple[str, ...] = ()
    experiments: tuple[str, ...] = ()
    display_name: str = ""
    description: str = ""
    end_time: datetime | None = None

    @property
    def ended(self) -> bool:
        """Whether it is over: its units may be assigned again."""
        return self.end_time is not None
