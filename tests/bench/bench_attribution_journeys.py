"""Journeys out of the event tables beside the plain join of conversions and touches in DuckDB.

The join gives the touches of each conversion as rows in no order. Journeys that convert are the
same touches in order; all journeys are those too that end without a conversion, which the join does
not look for. Each is made in a process of its own, by turns; processor time is of all threads.

TOUCHSTONE_BENCH_ATTRIBUTION_TOUCHES asks for more touchpoints in the tables than two million (20
million is the full size).
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.bench.report import BenchRow, compared

AREA = "attribution"
TOUCHES = int(os.environ.get("TOUCHSTONE_BENCH_ATTRIBUTION_TOUCHES", "2000000"))
JOIN = "join"
WHAT = {"converting": "journeys that convert", "all": "all journeys"}
MOST_MB = 4_000


def run() -> list[BenchRow]:
    """The time and the memory of both kinds of journeys."""
    with tempfile.TemporaryDirectory() as folder:
        asked("write", folder, str(TOUCHES))
        found = {what: answer_of(what, folder) for what in (JOIN, *WHAT)}
        again = answer_of(JOIN, folder)
    reference = min(found[JOIN], again, key=lambda each: float(each["cpu_s"]))
    return [row for what in WHAT for row in rows_of(what, found[what], reference)]


def rows_of(what: str, ours: dict[str, Any], reference: dict[str, Any]) -> list[BenchRow]:
    """Ours beside the join, which has to find as many touches."""
    if ours["touches"] != reference["touches"]:
        raise AssertionError(f"the join finds {reference['touches']} touches, we {ours['touches']}")
    name = f"{WHAT[what]} out of {TOUCHES:,} touchpoints and {TOUCHES // 50:,} conversions"
    return [
        compared(
            AREA,
            f"{name}, processor time",
            ours=ours["cpu_s"],
            reference=reference["cpu_s"],
            reference_name="the plain join in DuckDB, of conversions and touches alone",
            unit="s",
            goal="<= 1.5",
        ),
        compared(
            AREA,
            f"{name}: memory",
            ours=ours["peak_mb"],
            reference=MOST_MB,
            reference_name="4 GB",
            unit="MB",
            goal="<= 1",
        ),
    ]


def answer_of(what: str, folder: str) -> dict[str, Any]:
    """What a process measured; it is shown too, as it says more than the rows do."""
    printed = asked(what, folder)
    print(f"  {what}: {printed.strip()}", file=sys.stderr, flush=True)
    answer: dict[str, Any] = json.loads(printed)
    return answer


def asked(what: str, folder: str, *more: str) -> str:
    """What a process prints."""
    lake = str(Path(folder) / "lake")
    command = [sys.executable, "-m", "tests.bench.attribution_journeys", what, lake, *more]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=3_600).stdout
