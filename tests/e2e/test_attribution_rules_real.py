"""Every rule over a file of journeys, against plain loops over its rows.

The real file lies beside the checkout where there is one; elsewhere the tests make one. A fifth of
its customers is enough, and is taken by their ids.
"""

from __future__ import annotations

import csv
import datetime as dt
import zlib
from pathlib import Path

import pytest

from tests.e2e.attribution_checks import RULES, World, check_answer
from tests.e2e.attribution_oracle import DAY, Event, Rules, cut
from tests.e2e.suite import Suite
from tests.e2e.test_attribution_reports import journeys_file

__all__ = ["journeys_file"]
ORDER = "attributed-order"
DEFINITIONS = {
    "all": Rules(event_name=ORDER, lookback=10 * DAY),
    "split": Rules(event_name=ORDER, repeats="SPLIT"),
    "first_by_windows": Rules(
        event_name=ORDER,
        repeats="FIRST",
        lookback=20 * DAY,
        windows=(("Paid Search", "", 5 * DAY), ("Facebook", "impression", DAY)),
        direct="SKIP_IF_OTHER",
        direct_channels=("Instagram",),
    ),
}


def events_of(number: int, row: dict[str, str]) -> list[Event]:
    """Every row is a touch, and some are conversions too; the rows of the file count from 1."""
    time = int(dt.datetime.fromisoformat(row["time"]).timestamp()) * 1_000_000
    fields = {"channel": row["channel"], "interaction": row["interaction"]}
    unit = f"user:{row['customer_id']}"
    touch = Event(f"part:{number}:touch", "touch", unit, time, fields)
    if row["interaction"] != "conversion":
        return [touch]
    bought = {"event_name": ORDER, "value": float(row["conversion_value"])}
    return [touch, Event(f"part:{number}:conversion", "conversion", unit, time, bought)]


@pytest.fixture(scope="module")
def world(
    module_suite: Suite,
    journeys_file: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> World:
    part = tmp_path_factory.mktemp("part") / "part.csv"
    found = World(module_suite)
    with journeys_file.open(newline="") as whole, part.open("w", newline="") as file:
        rows = csv.DictReader(whole)
        assert rows.fieldnames is not None
        sheet = csv.DictWriter(file, rows.fieldnames)
        sheet.writeheader()
        taken = (row for row in rows if zlib.crc32(row["customer_id"].encode()) % 5 == 0)
        for number, row in enumerate(taken, 1):
            sheet.writerow(row)
            found.events += events_of(number, row)
    module_suite.run(
        *("import", "journeys", str(part), "--unit", "customer_id", "--time", "time"),
        *("--channel", "channel", "--interaction", "interaction", "--dataset", "part"),
        *("--value", "conversion_value", "--event-name", ORDER),
    )
    # The token of what is logged last is that of all before it too.
    last = {"channel": "Instagram", "interaction": "impression"}
    found.log([Event("last", "touch", "user:last", found.events[-1].time, last)])
    return found


@pytest.mark.parametrize("name", DEFINITIONS)
def test_every_rule_credits_what_loops_over_the_rows_count(world: World, name: str) -> None:
    definition = DEFINITIONS[name]
    found = cut(world.events, definition, ("lead", "opportunity"))
    assert len(found.converting) > 100
    for part in (RULES[:20], RULES[20:]):
        check_answer(world.asked(definition, part), part, found)
