"""Run a peer of the attribution models inside its own environment, and print what it measured.

`python attribution_peers.py mam|channel_attribution FOLDER`; the folder holds journeys.parquet
(journey, time_us, channel, converted: a row a touch) or paths.parquet (path, conversions, nulls).
"""

import importlib
import json
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

RULES = ("first_click", "last_click", "linear", "position_based", "time_decay")


def mam(folder: Path) -> dict[str, Any]:
    """marketing-attribution-models 2: five rules, then order-1 Markov."""
    pl = importlib.import_module("polars")
    MAM = importlib.import_module("mam").MAM

    rows = pl.read_parquet(folder / "journeys.parquet").with_columns(
        pl.from_epoch("time_us", time_unit="us").alias("time")
    )
    prepare_s, model = timed(
        lambda: MAM(
            rows,
            format_type="session",
            channels_colname="channel",
            journey_with_conv_colname="converted",
            datetime_colname="time",
            user_id_colname="journey",
        )
    )
    totals, rules_s = {}, 0.0
    for rule in RULES:
        seconds, result = timed(getattr(model, f"run_{rule}"))
        rules_s += seconds
        table = result.to_polars()
        totals[rule] = dict(
            zip(table[table.columns[0]].cast(pl.Utf8), table["attribution"], strict=True)
        )
    markov_s, result = timed(model.run_markov)
    effects = result.metadata["removal_effect"]["removal_effect"].to_dict()
    return {
        "prepare_s": prepare_s,
        "rules_s": rules_s,
        "totals": totals,
        "orders": {"1": {"markov_s": markov_s, "effects": effects}},
    }


def channel_attribution(folder: Path) -> dict[str, Any]:
    """ChannelAttribution: first, last, linear; then Markov of orders 1 to 3 by simulation."""
    peer = importlib.import_module("ChannelAttribution")
    pd = importlib.import_module("pandas")

    paths = pd.read_parquet(folder / "paths.parquet")
    rules_s, _ = timed(
        lambda: peer.heuristic_models(paths, "path", "conversions", sep=">", flg_pro=False)
    )
    orders = {}
    for order in (1, 2, 3):
        model = partial(
            peer.markov_model,
            paths,
            "path",
            "conversions",
            var_null="nulls",
            order=order,
            out_more=True,
            seed=1,
            verbose=False,
            flg_pro=False,
        )
        markov_s, result = timed(model)
        table = result["removal_effects"]
        effects = dict(zip(table[table.columns[0]], table[table.columns[1]], strict=True))
        orders[str(order)] = {"markov_s": markov_s, "effects": effects}
    return {"rules_s": rules_s, "orders": orders}


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds taken, and the result: of the clock, or of the processor where these are fewer.

    Other work on the machine delays the clock, and several threads count as one by it.
    """
    clock, processor = time.perf_counter(), time.process_time()
    result = work()
    return min(time.perf_counter() - clock, time.process_time() - processor), result


if __name__ == "__main__":
    peer = {"mam": mam, "channel_attribution": channel_attribution}[sys.argv[1]]
    print(json.dumps(peer(Path(sys.argv[2]))))
