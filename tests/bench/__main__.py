"""Run every benchmark: `python -m tests.bench [part of a module name ...]`."""

from __future__ import annotations

import importlib
import pkgutil
import sys
import traceback
from pathlib import Path

from tests.bench.report import BenchRow, print_rows, write_rows


def run_benches(package: str, folder: Path, wanted: list[str]) -> tuple[list[BenchRow], list[str]]:
    """The rows of every bench_*.py module in a package, and the modules that failed."""
    rows: list[BenchRow] = []
    failed: list[str] = []
    names = sorted(m.name for m in pkgutil.iter_modules([str(folder)]))
    for name in names:
        if not name.startswith("bench_") or (wanted and not any(w in name for w in wanted)):
            continue
        print(f"{name} ...", file=sys.stderr, flush=True)
        try:
            rows.extend(importlib.import_module(f"{package}.{name}").run())
        except Exception:  # noqa: BLE001  one that fails must not hide the others
            traceback.print_exc()
            failed.append(name)
    return rows, failed


def main() -> None:
    """Prints the table, writes build/bench.json, and fails when a benchmark failed."""
    rows, failed = run_benches("tests.bench", Path(__file__).parent, sys.argv[1:])
    print_rows(rows)
    write_rows(rows)
    if failed:
        sys.exit(f"error: these benchmarks failed: {', '.join(failed)}; see above")


if __name__ == "__main__":
    main()
