"""What a benchmark reports: rows that a person reads as a table and a program as JSON."""

from __future__ import annotations

import json
import operator
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

BUILD = Path("build")
_COMPARISONS: Mapping[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}


@dataclass(frozen=True, slots=True)
class BenchRow:
    """One measurement beside its reference.

    `ratio` is ours / reference. `goal` says which ratios are good enough, such as "<= 2"; empty
    means that there is no goal yet. A reference that could not be had is None; its row has neither
    a ratio nor a verdict, whatever ours is.
    """

    area: str
    name: str
    ours: float
    reference: float | None
    reference_name: str
    unit: str
    ratio: float | None
    goal: str
    met: bool | None

    def __post_init__(self) -> None:
        if self.reference is None and (self.ratio is not None or self.met is not None):
            raise ValueError(f"{self.name}: a missing reference has no ratio and is never met")


def compared(
    area: str,
    name: str,
    *,
    ours: float,
    reference: float,
    reference_name: str,
    unit: str,
    goal: str,
) -> BenchRow:
    """A row whose ratio and verdict follow from the two figures."""
    ratio = ours / reference
    return BenchRow(
        area, name, ours, reference, reference_name, unit, ratio, goal, goal_met(ratio, goal)
    )


def missing(
    area: str, name: str, *, ours: float, reference_name: str, unit: str, goal: str, reason: str
) -> BenchRow:
    """A row whose reference could not be had, and why."""
    shown = f"{reference_name} (missing: {reason})"
    return BenchRow(area, name, ours, None, shown, unit, None, goal, None)


def goal_met(ratio: float, goal: str) -> bool | None:
    """Whether a ratio reaches a goal such as ">= 0.5"; None where there is no goal."""
    if not goal:
        return None
    comparison, _, limit = goal.partition(" ")
    if comparison not in _COMPARISONS:
        raise ValueError(f"goal is {goal!r}; allowed: one of <=, >=, <, >, a blank and a number")
    return _COMPARISONS[comparison](ratio, float(limit))


def print_rows(rows: Sequence[BenchRow], console: Console | None = None) -> None:
    """Prints the rows as a table."""
    table = Table(title="Benchmarks: ratio = ours / reference")
    for heading in ("area", "name", "reference", "unit", "goal", "verdict"):
        table.add_column(heading, overflow="fold")
    for heading in ("ours", "theirs", "ratio"):
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(
            row.area,
            row.name,
            row.reference_name,
            row.unit,
            row.goal,
            "missing"
            if row.reference is None
            else {True: "met", False: "NOT MET", None: ""}[row.met],
            f"{row.ours:,.4g}",
            "missing" if row.reference is None else f"{row.reference:,.4g}",
            "" if row.ratio is None else f"{row.ratio:.3g}",
        )
    # Written to a file, a table as narrow as the default terminal cannot be read.
    wide = Console() if sys.stdout.isatty() else Console(width=200)
    (console or wide).print(table)


def write_rows(rows: Iterable[BenchRow], path: Path = BUILD / "bench.json") -> None:
    """Writes the rows as a list of objects with the fields of BenchRow."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([asdict(row) for row in rows], indent=1, allow_nan=False) + "\n")


def peer_environment(
    name: str, requirements: Sequence[str], build: Path = BUILD
) -> tuple[Path | None, str]:
    """The Python of an environment of its own that holds a peer, made once and kept under
    build/peers; else None. The second part says why it could not be had.
    """
    folder = build.absolute() / "peers" / name
    python = folder / "bin" / "python"
    stamp = folder / ".installed"
    wanted = "\n".join(requirements)
    if stamp.exists() and stamp.read_text() == wanted:
        return python, ""
    commands = (
        [sys.executable, "-m", "venv", "--clear", str(folder)],
        [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", *requirements],
    )
    for command in commands:
        try:
            subprocess.run(
                command, check=True, capture_output=True, text=True, timeout=600, env=_environment()
            )
        except subprocess.CalledProcessError as error:
            lines = (error.stderr or error.stdout).strip().splitlines()
            return None, lines[-1] if lines else f"status {error.returncode}"
        except (OSError, subprocess.TimeoutExpired) as error:
            return None, str(error)
    stamp.write_text(wanted)
    return python, ""


def _environment() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
