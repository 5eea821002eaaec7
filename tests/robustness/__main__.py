"""Play rows and their twins: `python -m tests.robustness --rows 1,6 --rounds 100 --seed 7`.

Prints a line a row and a table at the end, writes build/robustness.json, and fails when a promise
was broken or when a twin that breaks one was not caught.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.robustness.catalogue import FAULTS
from tests.robustness.fault import SERVICE, Fault, Play
from tests.robustness.model import Verdict

REPORT = Path("build/robustness.json")


@dataclass(frozen=True, slots=True)
class RobustnessRow:
    """What came of one row."""

    row: int
    fault: str
    passed: bool
    twins_caught: str
    faults: int
    calls: int
    unknown: int
    events: int
    reads: int
    lost: int
    doubled: int
    broken: dict[str, int]
    seconds: float


def play(fault: Fault, module: str, rounds: int, seed: int) -> Verdict:
    """Play a row once, in a folder of its own; says on standard error how to repeat a failure."""
    with tempfile.TemporaryDirectory(prefix="robustness-", ignore_cleanup_errors=True) as folder:
        return fault.run(Play(Path(folder), module, rounds, seed))


def measure(fault: Fault, rounds: int, seed: int) -> RobustnessRow:
    """Play the service and its twins."""
    begun = time.monotonic()
    verdict = play(fault, SERVICE, rounds, seed)
    if not verdict.holds:
        say(f"FAILED: {fault.command(rounds, seed)}\n{explained(verdict)}")
    caught = {}
    for twin, twin_rounds in fault.twins.items():
        result = play(fault, f"tests.robustness.twins.{twin}", twin_rounds, seed)
        caught[twin] = not result.holds
        say(f"  twin {twin}: {'caught by' if caught[twin] else 'NOT CAUGHT'} {dict(result.broken)}")
    return RobustnessRow(
        row=fault.row,
        fault=fault.what,
        passed=verdict.holds,
        twins_caught=f"{sum(caught.values())} of {len(caught)}",
        faults=verdict.faults,
        calls=verdict.calls,
        unknown=verdict.unknown,
        events=verdict.acknowledged,
        reads=verdict.reads,
        lost=verdict.broken.get("lost", 0),
        doubled=verdict.broken.get("doubled", 0),
        broken=dict(verdict.broken),
        seconds=round(time.monotonic() - begun, 1),
    )


def explained(verdict: Verdict) -> str:
    """What was broken, with a few examples."""
    return "\n".join([f"broken: {dict(verdict.broken)}", *verdict.examples[:10]])


def say(text: str) -> None:
    """Tell whoever waits."""
    print(text, file=sys.stderr, flush=True)


def show(rows: list[RobustnessRow]) -> None:
    """Print the rows as a table."""
    table = Table(title="Robustness: what acknowledged events survived")
    for heading in RobustnessRow.__slots__:
        table.add_column(heading)
    for row in rows:
        table.add_row(*(str(value) for value in asdict(row).values()))
    Console(width=180).print(table)


def arguments() -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m tests.robustness", description=__doc__)
    parser.add_argument("--rows", default="", help="rows to play, such as 1,6; default: all")
    parser.add_argument("--rounds", type=int, default=0, help="faults a row; default: its own")
    parser.add_argument("--seed", type=int, default=1, help="decides when and what; default: 1")
    return parser.parse_args()


def main() -> None:
    """See the module."""
    given = arguments()
    logging.disable(logging.CRITICAL)  # what the readers of this process say of damaged files
    wanted = {int(row) for row in given.rows.split(",") if row}
    rows = []
    for fault in FAULTS:
        if wanted and fault.row not in wanted:
            continue
        if lacks := fault.lacks():
            say(f"row {fault.row} is left out: {lacks}")
            continue
        rows.append(measure(fault, given.rounds or fault.rounds, given.seed))
        say(str(rows[-1]))
        REPORT.parent.mkdir(exist_ok=True)
        REPORT.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    show(rows)
    if not all(row.passed and row.twins_caught[0] == row.twins_caught[-1] for row in rows):
        sys.exit(f"error: a promise was broken, or a broken twin was not seen; see {REPORT}")


if __name__ == "__main__":
    main()
