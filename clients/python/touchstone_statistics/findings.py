"""The tests behind a decision: better, not worse by the margin, or worse, for any inference."""

from dataclasses import dataclass
from typing import Protocol

from touchstone_statistics.contrast import Contrast
from touchstone_statistics.decide import Levels, MetricVerdict
from touchstone_statistics.family import Role
from touchstone_statistics.gaps import BoolArray, FloatArray, Gap, GapArray
from touchstone_statistics.inference import Fixed, Reading
from touchstone_statistics.interval import Side
from touchstone_statistics.margins import not_worse, toward


class Inference(Protocol):
    """A way of reading a contrast at the level that it was made for."""

    def read(self, contrast: Contrast) -> Reading: ...


class Reader(Protocol):
    """Makes the inference for one test, for instance `Fixed` itself."""

    def __call__(self, alpha: float, side: Side, /) -> Inference: ...


@dataclass(frozen=True, slots=True)
class Goal:
    """What a metric is for: its role, its direction, and the margin that a guardrail may lose."""

    role: Role
    increase_is_better: bool = True
    margin: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Findings:
    """The three one-sided tests of a metric; arrays have the shape of the contrast.

    `better`, `not_worse` and `worse` are the p-values of superiority, of non-inferiority by the
    margin, and of deterioration; the flags say which are below their level.
    """

    goal: Goal
    lift: FloatArray
    better: FloatArray
    not_worse: FloatArray
    worse: FloatArray
    superior: BoolArray
    non_inferior: BoolArray
    deteriorated: BoolArray
    gap: GapArray

    def verdict(
        self, metric: str, holds: bool, powered: bool = True, index: tuple[int, ...] = ()
    ) -> MetricVerdict:
        """One element as the decision rule takes it; `holds` and `powered` as described there."""
        names: tuple[tuple[str, FloatArray], ...] = (
            ("lift", self.lift),
            ("p_superior", self.better),
            ("p_non_inferior", self.not_worse),
            ("p_deteriorated", self.worse),
        )
        known = self.gap[index] == Gap.NONE
        return MetricVerdict(
            metric=metric,
            role=self.goal.role,
            holds=holds,
            superior=bool(self.superior[index]),
            non_inferior=bool(self.non_inferior[index]),
            deteriorated=bool(self.deteriorated[index]),
            powered=powered,
            gap=Gap(int(self.gap[index])),
            numbers=tuple((name, float(values[index])) for name, values in names) if known else (),
        )


def findings(contrast: Contrast, goal: Goal, levels: Levels, reader: Reader = Fixed) -> Findings:
    """Test a metric for superiority, non-inferiority and deterioration at the levels of the rule.

    Non-inferiority is the linear contrast of `margins.not_worse`, so a margin is a share of the
    true control mean and not of its estimate. The contrast must have a null lift of zero.
    """
    side = toward(goal.increase_is_better)
    other = toward(not goal.increase_is_better)
    margin = not_worse(contrast, goal.margin, goal.increase_is_better)
    better = reader(levels.superiority, side).read(contrast)
    safe = reader(levels.non_inferiority, side).read(margin)
    worse = reader(levels.deterioration, other).read(contrast)
    known = (better.gap == Gap.NONE) & (safe.gap == Gap.NONE)
    return Findings(
        goal=goal,
        lift=contrast.lift,
        better=better.p_value,
        not_worse=safe.p_value,
        worse=worse.p_value,
        superior=known & (better.p_value < levels.superiority),
        non_inferior=known & (safe.p_value < levels.non_inferiority),
        deteriorated=known & (worse.p_value < levels.deterioration),
        gap=better.gap,
    )
