"""The reference of the event tables and of the events service says what is."""

import datetime as dt
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pysail.spark import SparkConnectServer

from services.events.domain.limits import Limits
from services.events.domain.rejection import Reason
from services.events.domain.steady_day import CONFIRMED_AFTER_DAYS, MAX_STEP_DAYS
from shared.lake.layout import COMMON_COLUMNS, LAYOUT_VERSION, TABLES, Column
from shared.lake.rows import table_of
from shared.lake.table import TableWriter
from shared.lake.writer import LakeWriter
from shared.testing.fakes import FixedClock

FOLDER = Path(__file__).parents[2] / "docs" / "reference"
LAKE = (FOLDER / "lake.md").read_text()
EVENTS = (FOLDER / "events.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```", LAKE, re.DOTALL)


def described(heading: str) -> list[str]:
    section = LAKE.split(f"### {heading}\n", 1)[1].split("\n#", 1)[0]
    return [line for line in section.splitlines() if line.startswith("| `")]


def lines(columns: tuple[Column, ...]) -> list[str]:
    return [
        f"| `{c.name}` | {c.type} | {'yes' if c.optional else 'no'} | {c.meaning} |"
        for c in columns
    ]


def test_every_column_is_described_as_it_is() -> None:
    assert f"layout version {LAYOUT_VERSION}" in LAKE
    assert described("Columns of every table") == lines(COMMON_COLUMNS)
    for name, table in TABLES.items():
        assert described(name) == lines(table.columns[len(COMMON_COLUMNS) :])


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small lake in it, as the examples expect it; the newest row is too new."""
    folder = tmp_path_factory.mktemp("readers")
    writer = LakeWriter(folder / "lake", "journal", FixedClock())
    rows = [
        {
            "project": project,
            "event_id": f"{project}{day}{value}",
            "unit_id": "u",
            "event_time": dt.datetime(2026, 1, day, tzinfo=dt.UTC),
            "event_name": "buy",
            "value": value,
        }
        for project in ("acme", "007")
        for day in (2, 3)
        for value in (0.5, 2.0)
    ]
    writer.append({"conversions": table_of("conversions", rows)}, 1)
    newer = table_of("conversions", [rows[0] | {"event_id": "newer", "position": 2}])
    TableWriter(folder / "lake", TABLES["conversions"]).append(newer, "journal", 2)
    return folder


@pytest.fixture(scope="module")
def spark_remote() -> Iterator[str]:
    """A Spark Connect server in this process."""
    server = SparkConnectServer("127.0.0.1", 0)
    server.start(background=True)
    _, port = server.listening_address
    yield f"sc://127.0.0.1:{port}"
    server.stop()


# pyspark says so of every newer pandas; the example hands nothing to it.
@pytest.mark.filterwarnings("ignore:PySpark does not yet fully support pandas:FutureWarning")
@pytest.mark.parametrize("example", EXAMPLES, ids=["duckdb", "pandas", "polars", "spark"])
def test_every_engine_gives_the_same_answer(
    example: str,
    lake: Path,
    spark_remote: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(lake)
    monkeypatch.setenv("SPARK_REMOTE", spark_remote)
    # A main module without a file makes pyspark believe that its own doctests run.
    monkeypatch.setattr(sys.modules["__main__"], "__file__", __file__, raising=False)
    names: dict[str, Any] = {}
    exec(compile(example, "docs/reference/lake.md", "exec"), names)
    assert "buy" in capsys.readouterr().out
    answer = [(str(day)[:10], *rest) for day, *rest in names["answer"]]
    assert answer == [("2026-01-02", "buy", 2, 2.5), ("2026-01-03", "buy", 2, 2.5)]
    if "spark" in names:
        names["spark"].stop()


def test_every_reason_and_limit_is_described() -> None:
    for reason in Reason:
        assert f"rejected, `{reason.value}`" in EVENTS
    limits = Limits()
    assert f"more than {limits.event_lead_s // 3600} hours" in EVENTS
    assert f"more than {limits.properties_bytes // 1024} KiB" in EVENTS
    assert f"the first {limits.kept_payload_bytes // 1024} KiB" in EVENTS
    assert f"keeps its newest {limits.kept_rejections:,}" in EVENTS
    assert f"more than {limits.kept_rejection_bytes // 2**20} MiB of payloads" in EVENTS
    assert f"above {limits.inline_bytes // 1024} KiB" in EVENTS
    assert f"by more than {MAX_STEP_DAYS} days" in EVENTS
    assert f"from there for {CONFIRMED_AFTER_DAYS} days" in EVENTS
    assert f"`dedupe_window_days` ({limits.dedupe_window_days})" in EVENTS
