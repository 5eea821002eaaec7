"""Models that weigh the touches before milestones such as lead and opportunity."""

from dataclasses import dataclass

from services.attribution.domain.models.position import SUM_TOLERANCE
from shared.errors import invalid

MAX_MILESTONES = 10


@dataclass(frozen=True, slots=True)
class Milestone:
    """The name of a milestone, and the weight of the touch that came before it."""

    name: str
    weight: float


@dataclass(frozen=True, slots=True)
class FullPath:
    """Weights of the first touch, of the touch before each milestone, and of the last touch.

    The touches that are none of these share what is left to 1. Where a touch is several of them,
    its weights add. Where a journey has no other touch, or did not reach a milestone, the weights
    that are left are divided by their sum.
    """

    first: float
    milestones: tuple[Milestone, ...]
    last: float = 0.0

    def __post_init__(self) -> None:
        names = [milestone.name for milestone in self.milestones]
        if not 0 < len(names) <= MAX_MILESTONES or len({*names}) < len(names):
            raise invalid("full_path.milestones", names, f"1 to {MAX_MILESTONES} distinct names")
        weights = (self.first, *(milestone.weight for milestone in self.milestones), self.last)
        for weight in weights:
            if not 0 <= weight <= 1:
                raise invalid("full_path", weight, "weights between 0 and 1")
        if not self.first + self.last > 0:
            raise invalid("full_path", "first 0 and last 0", "a weight at one end at least")
        if not sum(weights) <= 1 + SUM_TOLERANCE:
            raise invalid("full_path", sum(weights), "weights that sum to at most 1")

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the milestones."""
        return tuple(milestone.name for milestone in self.milestones)

    @property
    def others(self) -> float:
        """The weight that the other touches share."""
        fixed = self.first + self.last + sum(milestone.weight for milestone in self.milestones)
        return max(0.0, 1.0 - fixed)


def w_shaped(lead: str = "lead", opportunity: str = "opportunity") -> FullPath:
    """30% each to the first touch and those before two milestones, 10% to the others."""
    return FullPath(0.3, (Milestone(lead, 0.3), Milestone(opportunity, 0.3)))


def z_shaped(lead: str = "lead", opportunity: str = "opportunity") -> FullPath:
    """The full path: 22.5% each to first, lead, opportunity and last touch, 10% to the others."""
    return FullPath(0.225, (Milestone(lead, 0.225), Milestone(opportunity, 0.225)), 0.225)
