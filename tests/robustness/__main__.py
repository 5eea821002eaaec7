"""Play every scenario and its twin: `python -m tests.robustness [rounds] [seed]`.

Prints a table, writes build/robustness.json, and fails when a promise was broken or when a twin
that breaks one was not caught.
"""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.robustness.scenario import SCENARIOS, Scenario, can_mount, play

REPORT = Path("build/robustness.json")
ROUNDS, TWIN_ROUNDS, SEED = 12, 2, 1


@dataclass(frozen=True, slots=True)
class RobustnessRow:
    """A scenario's result."""

    row: int
    fault: str
    passed: bool
    twin_failed: bool
    kills: int
    events: int
    lost: int
    doubled: int


def measure(scenario: Scenario, rounds: int, seed: int) -> RobustnessRow:
    """Play the service and its twin."""
    with tempfile.TemporaryDirectory() as folder:
        verdict = play(scenario, "services.events", Path(folder) / "real", rounds, seed)
        twin = play(
            scenario,
            f"tests.robustness.twins.{scenario.twin}",
            Path(folder) / "twin",
            TWIN_ROUNDS,
            seed,
        )
    print(f"row {scenario.row}, seed {seed}: {verdict}; twin: {twin}", file=sys.stderr)
    return RobustnessRow(
        row=scenario.row,
        fault=scenario.fault,
        passed=verdict.holds,
        twin_failed=not twin.holds,
        kills=rounds,
        events=verdict.acknowledged,
        lost=verdict.lost,
        doubled=verdict.doubled,
    )


def show(rows: list[RobustnessRow]) -> None:
    """Print the rows as a table."""
    table = Table(title="Robustness: what acknowledged events survived")
    for heading in RobustnessRow.__slots__:
        table.add_column(heading)
    for row in rows:
        table.add_row(*(str(value) for value in asdict(row).values()))
    Console().print(table)


def main() -> None:
    """See the module."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else SEED
    rows = []
    for scenario in SCENARIOS:
        if scenario.disk_mb and not can_mount():
            print(f"row {scenario.row} is left out: only root can mount a disk", file=sys.stderr)
        else:
            rows.append(measure(scenario, rounds, seed))
    show(rows)
    REPORT.parent.mkdir(exist_ok=True)
    REPORT.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    if not all(row.passed and row.twin_failed for row in rows):
        sys.exit(f"error: a promise was broken, or a broken twin was not seen; see {REPORT}")


if __name__ == "__main__":
    main()
