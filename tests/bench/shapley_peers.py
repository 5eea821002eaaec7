"""Run a peer of the Shapley games inside its own environment, and print what it measured.

`python shapley_peers.py mam|shapley_attribution FOLDER`; the folder holds touches.parquet
(journey, time_us, channel, converted: a row a touch).
"""

import importlib
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def mam(folder: Path) -> dict[str, Any]:
    """marketing-attribution-models 2: the rate of exact sets, with no journey shortened."""
    pl = importlib.import_module("polars")
    MAM = importlib.import_module("mam").MAM

    rows = pl.read_parquet(folder / "touches.parquet").with_columns(
        pl.from_epoch("time_us", time_unit="us").alias("time")
    )
    model = MAM(
        rows,
        format_type="session",
        channels_colname="channel",
        journey_with_conv_colname="converted",
        datetime_colname="time",
        user_id_colname="journey",
    )
    seconds, result = timed(lambda: model.run_shapley(max_size=20))
    table = result.to_polars()
    names = table[table.columns[0]].cast(pl.Utf8)
    return {"seconds": seconds, "totals": dict(zip(names, table["attribution"], strict=True))}


def shapley_attribution(folder: Path) -> dict[str, Any]:
    """shapley-attribution 2: the simplified game."""
    pl = importlib.import_module("pyarrow.parquet")
    Simplified = importlib.import_module("shapley_attribution").SimplifiedShapleyAttribution

    columns = pl.read_table(folder / "touches.parquet").to_pydict()
    journeys: dict[int, list[str]] = {}
    converted: dict[int, bool] = {}
    for journey, channel, won in zip(
        columns["journey"], columns["channel"], columns["converted"], strict=True
    ):
        journeys.setdefault(journey, []).append(channel)
        converted[journey] = won
    model = Simplified(normalize=False)
    paths, outcomes = list(journeys.values()), [converted[journey] for journey in journeys]
    seconds, _ = timed(lambda: model.fit(paths, outcomes))
    return {"seconds": seconds, "totals": dict(model.attribution_)}


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds taken, and the result: of the clock, or of the processor where these are fewer.

    Other work on the machine delays the clock, and several threads count as one by it.
    """
    clock, processor = time.perf_counter(), time.process_time()
    result = work()
    return min(time.perf_counter() - clock, time.process_time() - processor), result


if __name__ == "__main__":
    peer = {"mam": mam, "shapley_attribution": shapley_attribution}[sys.argv[1]]
    print(json.dumps(peer(Path(sys.argv[2]))))
