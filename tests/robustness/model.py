"""What must hold between what clients were told and what readers see."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from shared.lake.snapshot import LakeEventTables
from tests.robustness.faults import PROJECT
from tests.robustness.traffic import History, value_of


@dataclass(frozen=True, slots=True)
class Verdict:
    """Counts of events; all but the first are 0 where every promise was kept."""

    acknowledged: int
    lost: int
    doubled: int
    invented: int
    altered: int
    unserved_clients: int
    """Clients whose last new batch, sent after the last fault, was not acknowledged."""

    @property
    def holds(self) -> bool:
        """Whether every promise was kept."""
        return self.acknowledged > 0 and not (
            self.lost or self.doubled or self.invented or self.altered or self.unserved_clients
        )


def stored_values(lake: Path) -> list[tuple[str, float]]:
    """Every stored event of the project and the value that it carries."""
    with LakeEventTables(lake).snapshot(PROJECT).read() as tables:
        rows: list[tuple[str, float]] = []
        for name, column in (("conversions", "value"), ("touchpoints", "cost")):
            answer = tables[name].select("event_id", column).to_pyarrow()
            rows += zip(answer["event_id"].to_pylist(), answer[column].to_pylist(), strict=True)
        return rows


def judge(history: History, stored: list[tuple[str, float]]) -> Verdict:
    """Compare: stored holds all that was acknowledged, each once, and nothing else."""
    counts = Counter(event_id for event_id, _ in stored)
    acknowledged, sent = history.acknowledged, history.sent
    return Verdict(
        acknowledged=len(acknowledged),
        lost=len(acknowledged - counts.keys()),
        doubled=sum(n - 1 for n in counts.values()) + history.accepted_again,
        invented=len(counts.keys() - sent),
        altered=sum(value != value_of(event_id) for event_id, value in stored if event_id in sent),
        unserved_clients=history.unserved_clients,
    )
