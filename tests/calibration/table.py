"""The page that publishes what the simulations found."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from tests.calibration.promises import Promise
from tests.docs.reference import with_table

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "calibration.md"
Row = tuple[str, str, str, str, str]
"""Number, what, allowed range, figure found, repetitions."""


def row(promise: Promise, figure: float, repetitions: int) -> Row:
    return (
        str(promise.number),
        promise.what,
        promise.allowed,
        promise.printed(figure),
        f"{repetitions:,}",
    )


def published() -> dict[tuple[str, str], Row]:
    """The rows of the page by number and text."""
    rows = re.findall(
        r"^\| (\d+) \| (.+) \| (.+) \| (.+) \| (.+) \|$", PAGE.read_text(), re.MULTILINE
    )
    return {(cells[0], cells[1]): cells for cells in rows}


def number_of(cell: str) -> float:
    """A figure as it was printed, percent or plain."""
    return float(cell.removesuffix("%")) / 100 if cell.endswith("%") else float(cell)


def publish(promises: Iterable[Promise], found: Mapping[tuple[str, str], Row]) -> None:
    """Write the rows of all promises: those just found, and the others as they stand."""
    rows = published() | dict(found)
    kept = [rows[key] for p in promises if (key := (str(p.number), p.what)) in rows]
    lines = ["| promise | what | allowed | found | repetitions |", "|---|---|---|---|---|"]
    lines += [f"| {' | '.join(cells)} |" for cells in kept]
    PAGE.write_text(with_table(PAGE.read_text(), iter(lines)))
