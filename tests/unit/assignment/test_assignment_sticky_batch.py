"""A large call with what units keep reads it once, and leaves the loop to others meanwhile."""

import asyncio
import threading
from collections.abc import Collection, ItemsView
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest
from touchstone_assignment.decision import Decision, Reason

from services.assignment.application import sticky
from services.assignment.application.sticky import Batch, StickyColumn, StickyKeeper
from services.assignment.domain.sticky import Ids, Kept, UnitKey
from services.assignment.serving_ports import Keep, KeptUnits
from shared.testing.fakes import FixedClock

NOW = datetime(2026, 3, 1, tzinfo=UTC)
SERVED = Decision("b", Reason.SPLIT, 1)
FIRST = Kept("a", 1, NOW)


class Counted(dict[tuple[str, UnitKey], Kept]):
    """Kept units that count how often they are gone through."""

    reads = 0

    def items(self) -> ItemsView[tuple[str, UnitKey], Kept]:  # type: ignore[override]
        self.reads += 1
        return super().items()


class Outcomes(dict[str, Decision]):
    """Outcomes that note in which threads they are asked for."""

    def __init__(self) -> None:
        super().__init__(a=Decision("a", Reason.SPLIT, 0))
        self.threads: set[int] = set()

    def get(self, key: str, default: Decision | None = None) -> Decision:  # type: ignore[override]
        self.threads.add(threading.get_ident())
        return super().get(key, default)  # type: ignore[return-value]


class Store:
    """StickyStore that keeps `FIRST` for every unit."""

    def read(
        self, project: str, experiments: Collection[str], units: Collection[UnitKey]
    ) -> KeptUnits:
        return {(experiment, unit): FIRST for experiment in experiments for unit in units}

    def keep(
        self, project: str, experiments: Collection[str], units: Collection[UnitKey], work: Keep
    ) -> KeptUnits:
        return work(self.read(project, experiments, units))


def columns(experiments: int, units: int, outcomes: Outcomes) -> list[StickyColumn]:
    ids = [Ids(f"u{number}") for number in range(units)]
    return [
        StickyColumn(f"e{number}", True, outcomes, ids, [SERVED] * units)
        for number in range(experiments)
    ]


def test_what_is_kept_is_gone_through_once_whatever_the_number_of_experiments() -> None:
    asked = columns(30, 2, Outcomes())
    found = Counted(
        {(one.experiment_id, f"u{number}"): FIRST for one in asked for number in range(2)}
    )
    batch = Batch(asked, 1, NOW)
    settled = batch.settled(found)
    assert settled == found
    assert found.reads == 1
    answers = batch.answers(found, settled)
    assert found.reads == 2
    assert [[cell.reason for cell in cells] for cells in answers] == [[Reason.STICKY] * 2] * 30


@pytest.mark.parametrize("experiments", [1, 3])
def test_only_a_large_call_is_judged_in_a_thread(experiments: int) -> None:
    outcomes = Outcomes()

    async def apply() -> int:
        with ThreadPoolExecutor(1) as threads:
            keeper = StickyKeeper(Store(), FixedClock(NOW), threads, patience_s=60)
            asked = columns(experiments, sticky.CELLS_AT_ONCE // 2, outcomes)
            answers = await keeper.apply("demo", 1, asked)
        assert {cell.variant for cells in answers for cell in cells} == {"a"}
        return threading.get_ident()

    loop = asyncio.run(apply())
    assert (loop in outcomes.threads) is (experiments == 1)
    assert len(outcomes.threads) == 1
