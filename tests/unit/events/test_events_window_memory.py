"""What a start takes of memory to fill the window, in a process of its own."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
from deltalake import write_deltalake

from services.events.domain.dedupe import DAYS_PER_BUCKET
from shared.lake.watermark import Watermark, write_watermark
from shared.testing.fakes import CountingIds
from tests.unit.events.test_events_flush import DAY_US, NOW, NOW_US

IDS = 1_500_000
MOST_BYTES = 200
"""An id, with what the engine takes whatever it reads: 24 in the window, 300 before in between."""
REBUILD = """
import datetime as dt, sys
from pathlib import Path
from services.events.adapters.sqlite_journal import SqliteJournal
from services.events.adapters.window_rebuild import rebuild
from services.events.domain.dedupe import DedupeWindow
from services.events.domain.limits import Limits
from shared.testing.fakes import CountingIds

def kib(name):
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1])

folder, now_s = Path(sys.argv[1]), float(sys.argv[2])
journal, window = SqliteJournal(folder / "j.db", CountingIds()), DedupeWindow(30)
before = kib("VmRSS")
rebuild(window, folder / "lake", journal, Limits(), dt.datetime.fromtimestamp(now_s, dt.UTC))
print(len(window), len(window._runs), (kib("VmHWM") - before) * 1024)
"""


def test_the_start_takes_little_more_than_the_window(tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    days = 2 * DAYS_PER_BUCKET
    for part in range(3):
        write_deltalake(lake / "conversions", rows(part, IDS // 3, days), mode="append")
    write_watermark(lake, Watermark(CountingIds().new(), 0, {"conversions": 2}, NOW))
    done = subprocess.run(
        [sys.executable, "-c", REBUILD, str(tmp_path), str(NOW.timestamp())],
        check=True,
        capture_output=True,
        text=True,
    )
    ids, runs, peak_bytes = map(int, done.stdout.split())
    assert ids == IDS
    assert runs <= days // DAYS_PER_BUCKET + 1, "a bucket is one run: nothing is merged after it"
    assert peak_bytes < MOST_BYTES * IDS


def rows(part: int, count: int, days: int) -> pa.Table:
    received = NOW_US - np.arange(count) % days * DAY_US
    return pa.table(
        {
            "project": pa.repeat("acme", count),
            "event_id": pa.array(np.arange(count) + part * count).cast(pa.string()),
            "content_digest": np.arange(count),
            "receive_time": pa.array(received).cast(pa.timestamp("us", tz="UTC")),
        }
    )
