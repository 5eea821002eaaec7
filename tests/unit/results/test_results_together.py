"""Readings asked for metric by metric and computed for all at once."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from touchstone_statistics.contrast import Contrast
from touchstone_statistics.estimand import Mean, estimate
from touchstone_statistics.inference import Reading
from touchstone_statistics.interval import Side
from touchstone_statistics.moments import Moments

from services.results.domain.analysis_plan import AnalysisMethod, AnalysisPlan
from services.results.domain.reading.rules import Rule
from services.results.domain.reading.together import Asking, ToRead, answered, every

SHARES = (0.6, 0.7)


def contrasts(count: int) -> list[Contrast]:
    """Metrics of three arms, one of them without any variance."""
    rng = np.random.default_rng(5)
    made = []
    for number in range(count):
        units, mean = rng.uniform(50, 5_000, 3), rng.normal(1, 0.1, (3, 1))
        spread = (units * rng.uniform(0.5, 2, 3)).reshape(3, 1, 1) * (number != 1)
        arms = estimate(Moments.of(units, mean, spread), Mean(0))
        made.append(Contrast(arms[:1], arms[1:]))
    return made


def reading(rule: Rule, contrast: Contrast, level: float, side: Side) -> Asking[Reading]:
    found: Reading = yield ToRead(rule, contrast, (), level, side)
    return found


@pytest.mark.parametrize(
    "method", [AnalysisMethod.FIXED, AnalysisMethod.ANYTIME, AnalysisMethod.HYBRID]
)
@pytest.mark.parametrize("side", [Side.TWO_SIDED, Side.LESS])
def test_together_is_as_one_by_one(method: AnalysisMethod, side: Side) -> None:
    rule = Rule(method, AnalysisPlan(method=method, planned_units=8_000), SHARES)
    wanted = list(zip(contrasts(6), (0.05, 0.05, 0.01, 0.2, 0.05, 0.1), strict=True))
    found = every([reading(rule, one, level, side) for one, level in wanted])
    for (one, level), joint in zip(wanted, found, strict=True):
        alone = rule.read(one, (), level, side)
        assert joint.p_value == pytest.approx(alone.p_value, rel=1e-12)
        assert joint.gap.tolist() == alone.gap.tolist()
        for part in ("difference", "lift"):
            ours, theirs = getattr(joint, part), getattr(alone, part)
            assert ours.low == pytest.approx(theirs.low, rel=1e-12)
            assert ours.high == pytest.approx(theirs.high, rel=1e-12)
            assert ours.shape.tolist() == theirs.shape.tolist()


@dataclass(frozen=True)
class Doubled:
    """Numbers doubled together; there is one that cannot be."""

    number: int
    calls: list[int]

    @property
    def kind(self) -> str:
        return "double"

    @staticmethod
    def answers(alike: Sequence["Doubled"]) -> list[int]:
        alike[0].calls.append(len(alike))
        if any(one.number == 13 for one in alike):
            raise ArithmeticError("13")
        return [2 * one.number for one in alike]


def doubling(number: int, calls: list[int]) -> Asking[int]:
    once: int = yield Doubled(number, calls)
    twice: int = yield Doubled(once, calls)
    return twice


def test_what_is_of_one_kind_is_one_call() -> None:
    calls: list[int] = []
    assert every([doubling(number, calls) for number in (1, 2, 3)]) == [4, 8, 12]
    assert calls == [3, 3]


def test_what_fails_for_one_fails_for_it_alone() -> None:
    calls: list[int] = []
    first, second, third = answered([doubling(number, calls) for number in (1, 13, 3)])
    assert (first, third) == (4, 12)
    assert isinstance(second, ArithmeticError)
    with pytest.raises(ArithmeticError, match="13"):
        every([doubling(13, calls)])


def patient(wishes: Sequence[Doubled]) -> Asking[int]:
    answers = 0
    for wish in wishes:
        answer: int = yield wish
        answers += answer > 0
    return answers


def test_what_asks_nothing_is_done() -> None:
    calls: list[int] = []
    assert answered([patient([]), patient([Doubled(2, calls)])]) == [0, 1]
    assert answered([]) == []
