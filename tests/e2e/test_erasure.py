"""A customer is erased from a running suite, and stays erased when an older backup is restored."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from tests.e2e.suite import Suite
from tests.e2e.test_loop import create_and_start, log, read_results, simulated_events

UNITS = 40
GONE = "customer-17"
"""Nobody else's id begins with it."""


def counted(suite: Suite, token: str = "") -> list[int]:
    """The units of both arms."""
    return [arm.units for arm in read_results(suite, token).arms]


def holds(folder: Path, unit: str) -> bool:
    """Whether any file below the folder holds the unit: as bytes, or within compressed columns."""
    names = ["find", str(folder), "-type", "f"]
    bytes_of = subprocess.run([*names, "-exec", "cat", "{}", "+"], capture_output=True, check=True)
    if unit.encode() in bytes_of.stdout:
        return True
    tables = [path for path in folder.rglob("day=*/*.parquet") if path.is_file()]
    return any(unit in pq.read_table(path)["unit_id"].to_pylist() for path in tables)


def test_erased_customer_stays_erased_after_an_older_backup_was_restored(tmp_path: Path) -> None:
    suite = Suite(tmp_path / "data")
    suite.environment["TOUCHSTONE_ERASURE_GRACE_S"] = "1"
    suite.environment["TOUCHSTONE_BACKUPS"] = str(tmp_path / "backups")
    suite.start()
    try:
        create_and_start(suite)
        variants = ["control" if number % 2 else "treatment" for number in range(UNITS)]
        events = list(simulated_events(variants, np.full(UNITS, 5.0)))
        assert counted(suite, log(suite, events)) == [20, 20]
        assert holds(suite.data, GONE)
        suite.run("keys", "bootstrap", "--operator")
        suite.run("backup", "create", "before")

        done = suite.run("erase", GONE, "--reason", "ticket-7", "--wait", "-o", "json")
        erasure = json.loads(done.stdout)
        assert erasure["state"] == "ERASURE_STATE_PROVED"
        rows = {table["table"]: int(table["rows"]) for table in erasure["proof"]["tables"]}
        assert rows == {"exposures": 1, "touchpoints": 1, "conversions": 1}
        assert counted(suite) == [19, 20]
        assert not holds(suite.data, GONE)
        listed = suite.run("erasures")
        assert "ticket-7" in listed.stdout
        assert GONE not in listed.stdout
        assert "erasure" in suite.run("operations", "list").stdout
    finally:
        assert suite.stop() == 0

    restored = Suite(tmp_path / "restored")
    restored.environment |= {
        "TOUCHSTONE_ERASURE_GRACE_S": "1",
        "TOUCHSTONE_BACKUPS": str(tmp_path / "backups"),
    }
    newest = str(suite.data / "erasures")
    restored.run("backup", "restore", str(tmp_path / "backups" / "before"), "--erasures", newest)
    assert holds(restored.data, GONE), "the backup is from before"
    restored.start()
    try:
        assert counted(restored) == [19, 20], "it is ready only when it is erased again"
        (operation,) = json.loads(restored.run("operations", "list", "-o", "json").stdout)[
            "operations"
        ][:1]
        restored.run("operations", "wait", operation["name"].rpartition("/")[2])
        assert not holds(restored.data, GONE)
        token = log(restored, [])
        assert counted(restored, token) == [19, 20]
    finally:
        assert restored.stop() == 0


def test_retention_is_set_and_shown_from_the_command_line(suite: Suite) -> None:
    suite.run("retention", "set", "--evaluation", "400", "--rejected", "30", "--dry-run")
    assert "400" not in suite.run("retention", "show").stdout
    suite.run("retention", "set", "--evaluation", "400", "--rejected", "30")
    shown = json.loads(suite.run("retention", "show", "-o", "json").stdout)
    assert (shown["evaluation_days"], shown["rejected_days"], shown["exposure_days"]) == (
        400,
        30,
        0,
    )
    stale = suite.run("retention", "set", "--rejected", "1", "--etag", "r0", status=1)
    assert "somebody changed it" in stale.stderr
    suite.run("retention", "set", "--evaluation", "0", "--rejected", "0")
    assert "400" not in suite.run("retention", "show").stdout
    usage = suite.run("retention", "set", status=2)
    assert "--conversion" in usage.stderr
