"""Files of events through the command line into a real events service, and out of its tables."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pytest
from deltalake import DeltaTable

from shared.lake.layout import TABLES
from tests.robustness.faults import EventsProcess, make_key

ROWS = 1000
WAIT_S = 120
ENDINGS = ("csv", "ndjson", "parquet")
DATA = Path(__file__).parents[3] / "shared" / "data"


@dataclass
class Service:
    """A running events service, and the command line that calls it."""

    process: EventsProcess
    keys: dict[str, str]
    folder: Path

    def command(self, project: str, *arguments: str) -> tuple[list[str], dict[str, str]]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("TOUCHSTONE_")}
        environment = kept | {
            "TOUCHSTONE_DATA": str(self.folder),
            "TOUCHSTONE_API_KEY": self.keys[project],
            "TOUCHSTONE_EVENTS_ADDRESS": self.process.address,
        }
        command = [sys.executable, "-m", "services.cli", "import", "events", *arguments]
        return [*command, "--rejects", str(self.folder / "rejected.csv"), "-o", "json"], environment

    def run(self, project: str, *arguments: str, status: int = 0, text: str = "") -> dict[str, Any]:
        """Imports, checks the exit status, and returns the summary."""
        command, environment = self.command(project, *arguments)
        done = subprocess.run(
            command,
            env=environment,
            input=text,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == status, done.stderr
        summary: dict[str, Any] = json.loads(done.stdout)
        return summary

    def table(self, project: str, kind: str) -> pd.DataFrame:
        """The rows of a project, as the lake has them."""
        lake = self.process.data / "lake"
        mark = json.loads((lake / "_watermark.json").read_text())
        table = DeltaTable(lake / kind, version=mark["tables"][kind])
        found: pd.DataFrame = table.to_pandas(filters=[("project", "=", project)])
        return found


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("import")
    process = EventsProcess(folder / "data")
    projects = (*ENDINGS, "other", "killed", "ended")
    keys = {project: make_key(process.data, project) for project in projects}
    process.start()
    yield Service(process, keys, folder)
    process.terminate()


def frame_of(kind: str) -> pd.DataFrame:
    """Rows with everything that their kind can hold, some of it absent."""
    rng = np.random.default_rng(list(TABLES).index(kind))
    at = pd.Timestamp("2026-03-01", tz="UTC") + pd.to_timedelta(
        rng.integers(0, 20 * 86_400_000_000, ROWS), unit="us"
    )
    frame = pd.DataFrame(
        {
            "event_id": [f"{kind}-{n:06d}" for n in range(ROWS)],
            "event_time": at.as_unit("us"),
            "unit_type": rng.choice(["user", "device"], ROWS),
            "unit_id": [f'ü-{n}, "{n % 7}"' for n in rng.integers(0, 500, ROWS)],
            "linked_units": sparse(rng, '[{"type": "account", "id": "k-%d"}]'),
            "source": sparse(rng, "shop-%d"),
            "properties": sparse(rng, '{"plan":"gold","n":%d,"list":[1,null,{"deep":true}]}'),
        }
    )
    own: dict[str, dict[str, Any]] = {
        "exposures": {"experiment": "checkout", "variant": rng.choice(["a", "b"], ROWS)},
        "conversions": {"event_name": rng.choice(["order", "visit"], ROWS)},
        "touchpoints": {"channel": rng.choice(["Paid Search", "E-Mail"], ROWS)},
        "identifies": {"other_unit_type": "account", "other_unit_id": sparse(rng, "k-%d", 1.0)},
        "evaluations": {"flag": rng.choice(["dark", "light"], ROWS)},
    }
    amounts = np.round(rng.gamma(2, 9, ROWS), 2)
    amounts[rng.random(ROWS) < 0.3] = np.nan
    versions = pd.array(rng.integers(1, 9, ROWS), dtype="Int64")
    texts = {
        "exposures": {"reason": "split-%d", "evaluator": "e\n%d"},
        "conversions": {"currency": "EUR"},
        "touchpoints": {"campaign": "c%d", "term": "t%d", "interaction": "click"},
        "identifies": {"action": "unlink"},
        "evaluations": {"variant": "on", "value_json": '{"a":%d}', "flag_set": "f%d"},
    }[kind]
    others: dict[str, dict[str, Any]] = {
        "exposures": {"config_version": versions},
        "conversions": {"value": amounts},
        "touchpoints": {"cost": amounts},
    }
    filled: dict[str, Any] = {name: sparse(rng, form) for name, form in texts.items()}
    return frame.assign(**own[kind], **filled, **others.get(kind, {}))


def sparse(rng: np.random.Generator, form: str, share: float = 0.5) -> list[str | None]:
    numbers = rng.integers(0, 1000, ROWS)
    given = rng.random(ROWS) < share
    filled = [form % n if "%" in form else form for n in numbers]
    return [text if there else None for text, there in zip(filled, given, strict=True)]


def write(frame: pd.DataFrame, path: Path) -> None:
    """The rows in the format of the file's ending; in NDJSON, JSON stands as it is."""
    if path.suffix == ".csv":
        frame.to_csv(path, index=False, date_format="%Y-%m-%dT%H:%M:%S.%fZ")
    elif path.suffix == ".parquet":
        frame.to_parquet(path)
    else:
        lines = []
        for row in frame.to_dict("records"):
            cells = {name: cell for name, cell in row.items() if not_absent(cell)}
            cells["event_time"] = row["event_time"].isoformat()
            for name in ("linked_units", "properties"):
                if name in cells:
                    cells[name] = json.loads(cells[name])
            lines.append(json.dumps(cells, ensure_ascii=False) + "\n")
        path.write_text("".join(lines))


def plain(frame: pd.DataFrame) -> list[dict[str, object]]:
    """Rows by id, with JSON as its values and nothing for what is absent."""
    rows = []
    for row in frame.sort_values("event_id").to_dict("records"):
        cells = {str(name): cell for name, cell in row.items() if not_absent(cell)}
        cells["event_time"] = pd.Timestamp(cells["event_time"]).timestamp()
        for name in ("linked_units", "properties"):
            if isinstance(cells.get(name), str):
                cells[name] = json.loads(str(cells[name]))
        rows.append({name: float(c) if isinstance(c, int) else c for name, c in cells.items()})
    return rows


def not_absent(cell: object) -> bool:
    return not (cell is None or cell is pd.NA or cell == "" or cell != cell)


def read_independently(path: Path) -> pd.DataFrame:
    if path.suffix == ".csv":
        frame = pd.read_csv(path, dtype=str, keep_default_na=False)
        for name in ("value", "cost", "config_version"):
            if name in frame:
                frame[name] = pd.to_numeric(frame[name])
        return frame
    if path.suffix == ".parquet":
        query = "SELECT * REPLACE (event_time::VARCHAR AS event_time) FROM read_parquet(?)"
        found = duckdb.execute(query, [str(path)])
        names = [column[0] for column in found.description or ()]
        return pd.DataFrame(found.fetchall(), columns=names, dtype=object)
    return pd.DataFrame([json.loads(line) for line in path.read_text().splitlines()])


@pytest.mark.parametrize("kind", list(TABLES))
def test_three_formats_make_the_same_table(kind: str, service: Service, tmp_path: Path) -> None:
    """What is in the lake is what an independent reader finds in the file."""
    frame = frame_of(kind)
    stored = {}
    for ending in ENDINGS:
        path = tmp_path / f"rows.{ending}"
        write(frame, path)
        summary = service.run(ending, str(path), "--kind", kind)
        assert (summary["rows"], summary["accepted"], summary["rejected"]) == (ROWS, ROWS, 0)
        stored[ending] = plain(service.table(ending, kind)[list(frame.columns)])
        assert stored[ending] == plain(read_independently(path))
    assert stored["csv"] == stored["ndjson"] == stored["parquet"]


def test_the_tables_own_files_can_be_imported(service: Service, tmp_path: Path) -> None:
    """What one installation stored goes into another as it is; into the same, nothing goes."""
    path = tmp_path / "stored.parquet"
    frame = frame_of("conversions")
    write(frame, tmp_path / "rows.csv")
    service.run("csv", str(tmp_path / "rows.csv"), "--kind", "conversions")
    again = service.run("csv", str(tmp_path / "rows.csv"), "--kind", "conversions")
    assert (again["accepted"], again["duplicates"]) == (0, ROWS)
    service.table("csv", "conversions").to_parquet(path)
    summary = service.run("other", str(path), "--kind", "conversions")
    assert summary["accepted"] == ROWS
    columns = list(frame.columns)
    assert plain(service.table("other", "conversions")[columns]) == plain(frame)


def test_rejected_rows_are_told_and_the_exit_code_says_so(service: Service, tmp_path: Path) -> None:
    """Rows that cannot be read and events that the service refuses, by row and column."""
    path = tmp_path / "orders.csv"
    good = "2026-03-02T13:43:00Z,c{0},{0}.5\n"
    path.write_text(
        "at,customer,worth\n"
        + good.format(1)
        + "noon,c2,1\n"
        + good.format(3)
        + "\x01" * 0
        + "2026-03-02T13:43:00Z,c\t4,1\n"
        + "1969-01-01T00:00:00Z,c5,1\n"
        + good.format(6)
    )
    arguments = (
        *(str(path), "--kind", "conversions", "--id-prefix", "orders", "--map", "at=event_time"),
        *("--map", "customer=unit_id", "--map", "worth=value", "--set", "unit_type=user"),
        *("--set", "event_name=order", "--set", "currency=EUR"),
    )
    summary = service.run("killed", *arguments, status=3)
    assert (summary["rows"], summary["accepted"], summary["rejected"]) == (6, 3, 3)
    assert summary["rejected_bad_row"] == 1
    rejects = pd.read_csv(service.folder / "rejected.csv").sort_values("row")
    assert list(rejects["row"]) == [2, 4, 5]
    assert list(rejects["column"]) == ["at", "customer", "at"]
    assert list(rejects["why"]) == ["BAD_ROW", "INVALID_FIELD", "EVENT_TIME_OUT_OF_RANGE"]
    stopped = service.run("killed", *arguments, "--max-errors", "1", status=1)
    assert stopped["duplicates"] == 3
    path.write_text(path.read_text().replace("noon", "2026-03-02").replace(",3.5", ",9.5"))
    mended = service.run("killed", *arguments, status=3)
    assert (mended["accepted"], mended["duplicates"]) == (1, 2)
    assert mended["rejected_conflicting_duplicate"] == 1


def lines_of(count: int) -> list[str]:
    row = {"event_time": "2026-03-02T13:43:00Z", "unit_type": "user", "event_name": "order"}
    return [
        json.dumps({"event_id": f"k{n}", **row, "unit_id": f"u{n % 997}", "value": n}) + "\n"
        for n in range(count)
    ]


def test_service_that_is_killed_during_an_import(service: Service) -> None:
    """The import waits for it, goes on, and everything is stored once."""
    count = 150_000
    lines = lines_of(count)
    command, environment = service.command("killed", "-", "--kind", "conversions")
    import_process = subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert import_process.stdin is not None
    half = threading.Event()

    def feed() -> None:
        assert import_process.stdin is not None
        import_process.stdin.writelines(lines[: count // 2])
        import_process.stdin.flush()
        half.wait(WAIT_S)
        import_process.stdin.writelines(lines[count // 2 :])
        import_process.stdin.close()

    feeder = threading.Thread(target=feed)
    feeder.start()
    until(lambda: has_events(service, "killed"))
    service.process.kill()
    half.set()
    time.sleep(0.5)
    service.process.start()
    feeder.join(WAIT_S)
    import_process.stdin = None
    out, said = import_process.communicate(timeout=WAIT_S)
    assert import_process.returncode == 0, said
    summary = json.loads(out)
    assert summary["accepted"] + summary["duplicates"] == count
    check_once(service, "killed", count)


def test_import_that_is_killed_and_given_again(service: Service, tmp_path: Path) -> None:
    """What was in counts as duplicates, and everything is stored once."""
    count = 150_000
    path = tmp_path / "rows.ndjson"
    path.write_text("".join(lines_of(count)))
    command, environment = service.command("ended", str(path), "--kind", "conversions")
    first = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    until(lambda: has_events(service, "ended"))
    first.kill()
    first.wait(WAIT_S)
    summary = service.run("ended", str(path), "--kind", "conversions")
    assert summary["duplicates"] > 0
    assert summary["accepted"] + summary["duplicates"] == count
    check_once(service, "ended", count)


def has_events(service: Service, project: str) -> bool:
    try:
        return bool((service.table(project, "conversions")["event_id"].str[0] == "k").any())
    except OSError:
        return False


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + WAIT_S
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def check_once(service: Service, project: str, count: int) -> None:
    table = service.table(project, "conversions")
    table = table[table["event_id"].str[0] == "k"]
    assert len(table) == count
    assert set(table["event_id"]) == {f"k{n}" for n in range(count)}
    assert table["value"].sum() == count * (count - 1) / 2


@pytest.mark.parametrize("ending", ENDINGS)
def test_journeys_as_touchpoints(ending: str, service: Service, tmp_path: Path) -> None:
    """Real journeys, or rows of their shape, with columns that are called otherwise."""
    real = DATA / "journeys.csv"
    frame = pd.DataFrame(
        {
            "customer_id": [f"A{n % 400}" for n in range(2000)],
            "time": [f"2018-07-{1 + n % 28:02d}T12:00:00Z" for n in range(2000)],
            "channel": ["Facebook", "Paid Search"] * 1000,
            "interaction": ["impression"] * 2000,
        }
    )
    if real.exists():
        frame = pd.read_csv(real, nrows=20_000)[list(frame.columns)]
    path = tmp_path / f"journeys.{ending}"
    if ending == "csv":
        frame.to_csv(path, index=False)
    elif ending == "ndjson":
        frame.to_json(path, orient="records", lines=True)
    else:
        frame.to_parquet(path)
    summary = service.run(
        "other",
        *(str(path), "--kind", "touchpoints", "--map", "customer_id=unit_id", "--map"),
        *("time=event_time", "--set", "unit_type=user", "--set", f"source={ending}"),
        *("--time-zone", "UTC"),
    )
    assert (summary["accepted"], summary["rejected"]) == (len(frame), 0)
    stored = service.table("other", "touchpoints")
    stored = stored[stored["source"] == ending]
    assert stored["channel"].value_counts().to_dict() == frame["channel"].value_counts().to_dict()
    assert set(stored["unit_id"]) == set(frame["customer_id"])
