"""The reference of the event tables and of the events service says what is."""

import datetime as dt
import re
from pathlib import Path

import pytest

from services.events.domain.limits import Limits
from services.events.domain.rejection import Reason
from services.events.domain.steady_day import CONFIRMED_AFTER_DAYS, MAX_STEP_DAYS
from services.events.settings import Settings
from shared.lake.layout import COMMON_COLUMNS, LAYOUT_VERSION, TABLES, Column
from shared.lake.rows import table_of
from shared.lake.writer import LakeWriter
from shared.settings import ServiceSettings
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


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small lake in the current folder, as the examples expect it."""
    common: dict[str, object] = {
        "project": "acme",
        "event_time": dt.datetime(2026, 1, 2, tzinfo=dt.UTC),
    }
    rows: dict[str, dict[str, object]] = {
        "conversions": {"event_name": "buy", "value": 2.5},
        "exposures": {"experiment": "e", "variant": "on"},
        "touchpoints": {"channel": "email", "cost": 0.25},
    }
    tables = {
        name: table_of(name, [common | row | {"event_id": i, "unit_id": i} for i in "ab"])
        for name, row in rows.items()
    }
    LakeWriter(tmp_path / "lake", "journal", FixedClock()).append(tables, 1)
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("lake")
@pytest.mark.parametrize(
    ("example", "expected"),
    list(zip(EXAMPLES, ["'buy', 2, 5.0", "on", "email"], strict=True)),
    ids=["duckdb", "pandas", "polars"],
)
def test_the_examples_run_and_answer(
    example: str, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    exec(compile(example, "docs/reference/lake.md", "exec"), {})
    assert expected in capsys.readouterr().out


def test_every_setting_reason_and_limit_is_described() -> None:
    own = Settings.model_fields.keys() - ServiceSettings.model_fields.keys()
    for name in own:
        field = Settings.model_fields[name]
        assert f"| `{name.upper()}` | {field.default} | {field.description} |" in EVENTS
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
