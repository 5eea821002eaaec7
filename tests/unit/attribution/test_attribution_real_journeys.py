"""The models on 7,896 customers' journeys, against a computation with pandas alone.

Where the file of real journeys is not beside the repository, journeys of the same shape are drawn.
"""

from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from services.attribution.domain.events import Conversions, Touches
from services.attribution.domain.journey_statistics import JourneyStatistics, measure
from services.attribution.domain.journeys import JourneyRules, Journeys, build_journeys
from services.attribution.domain.models import EVERY_MODEL, Markov
from services.attribution.domain.totals import model_totals

REAL = Path(__file__).parents[4] / "shared" / "data" / "journeys.csv"
LOOKBACK = pd.Timedelta(days=10)


def drawn_journeys() -> pd.DataFrame:
    generator = np.random.default_rng(20180701)
    customers = np.repeat(np.arange(7_896), 1 + generator.poisson(6.9, 7_896))
    rows = len(customers)
    seconds = generator.choice(31 * 86_400, rows, replace=False)
    channels = ["Facebook", "Instagram", "Online Display", "Online Video", "Paid Search"]
    converts = generator.random(rows) < 0.03
    return pd.DataFrame(
        {
            "customer_id": [f"A{customer:06d}" for customer in customers],
            "time": pd.Timestamp("2018-07-01", tz="UTC") + pd.to_timedelta(seconds, unit="s"),
            "interaction": np.where(converts, "conversion", "impression"),
            "conversion_value": np.where(converts, generator.choice([5.0, 6.5, 8.5], rows), 0.0),
            "channel": generator.choice(channels, rows, p=[0.3, 0.13, 0.12, 0.19, 0.26]),
        }
    )


@pytest.fixture(scope="module")
def log() -> pd.DataFrame:
    rows = pd.read_csv(REAL) if REAL.exists() else drawn_journeys()
    rows["time"] = pd.to_datetime(rows["time"], utc=True)
    ordered = rows.sort_values(["customer_id", "time"], kind="stable").reset_index(drop=True)
    return ordered.assign(row=range(len(ordered)))


@pytest.fixture(scope="module")
def cut(log: pd.DataFrame) -> tuple[Journeys, JourneyStatistics]:
    units, _ = pd.factorize(log["customer_id"], sort=True)
    codes, channels = pd.factorize(log["channel"], sort=True)
    times = log["time"].dt.as_unit("us").astype("int64").to_numpy()
    bought = (log["interaction"] == "conversion").to_numpy()
    unknown = np.full(len(log), np.nan)
    touches = Touches(tuple(channels), units, times, codes.astype(np.int32), unknown)
    conversions = Conversions(
        units[bought], times[bought], log["conversion_value"].to_numpy()[bought]
    )
    rules = JourneyRules(lookback_us=int(LOOKBACK.total_seconds() * 1_000_000))
    journeys = build_journeys(touches, conversions, rules)
    return journeys, measure(touches, journeys, EVERY_MODEL, rules.start_us)


def with_pandas(log: pd.DataFrame) -> pd.DataFrame:
    """Every conversion joined with every touch of its customer, filtered, and weighed."""
    bought = log[log["interaction"] == "conversion"].copy()
    bought["conversion"] = range(len(bought))
    pairs = bought[["customer_id", "time", "conversion", "conversion_value"]].merge(
        log[["customer_id", "time", "channel", "row"]], on="customer_id", suffixes=("_bought", "")
    )
    age = pairs["time_bought"] - pairs["time"]
    seen = pairs[(age >= pd.Timedelta(0)) & (age <= LOOKBACK)].copy()
    journey = seen.groupby("conversion")
    seen["first_touch"] = (seen["time"] == journey["time"].transform("min")).astype(float)
    seen["last_touch"] = (seen["time"] == journey["time"].transform("max")).astype(float)
    seen["linear"] = 1 / journey["time"].transform("size")
    age_days = (seen["time_bought"] - seen["time"]).dt.total_seconds() / 86_400
    decay = 0.5 ** (age_days / 7)
    seen["time_decay"] = decay / decay.groupby(seen["conversion"]).transform("sum")
    return seen


def test_every_conversion_is_handed_out_once(cut: tuple[Journeys, JourneyStatistics]) -> None:
    journeys, statistics = cut

    for model in EVERY_MODEL:
        for table in model_totals(model, statistics, journeys):
            handed_out = sum(channel.conversions for channel in table.channels)
            assert handed_out == pytest.approx(statistics.counts.converting, abs=1e-6)
    assert statistics.counts.converting + statistics.counts.direct > 1_000


def test_the_rules_equal_a_computation_with_pandas(
    log: pd.DataFrame, cut: tuple[Journeys, JourneyStatistics]
) -> None:
    journeys, statistics = cut
    seen = with_pandas(log)

    assert len(journeys.converting_codes) == len(seen)
    checked = set()
    for model in EVERY_MODEL:
        for table in model_totals(model, statistics, journeys):
            if table.output.value not in seen.columns:
                continue
            weights = seen[table.output.value]
            expected = weights.groupby(seen["channel"]).sum()
            value = (weights * seen["conversion_value"]).groupby(seen["channel"]).sum()
            for channel in table.channels:
                assert channel.conversions == pytest.approx(expected[channel.channel], rel=1e-9)
                assert channel.value == pytest.approx(value[channel.channel], rel=1e-9)
            checked.add(table.output.value)
    assert checked == {"first_touch", "last_touch", "linear", "time_decay"}


def test_removal_effects_equal_removal_by_force_on_paths_cut_with_pandas(
    log: pd.DataFrame, cut: tuple[Journeys, JourneyStatistics]
) -> None:
    journeys, statistics = cut
    seen = with_pandas(log)
    unseen = log[~log["row"].isin(seen["row"])]
    before = unseen.shift(1)
    begins = (
        (unseen["customer_id"] != before["customer_id"])
        | (unseen["row"] != before["row"] + 1)
        | (unseen["time"] - before["time"] > LOOKBACK)
    )
    converting = seen.sort_values(["conversion", "time"]).groupby("conversion")["channel"]
    others = unseen.groupby(begins.cumsum())["channel"]
    paths = [[*path, "(conversion)"] for _, path in converting]
    paths += [[*path, "(null)"] for _, path in others]

    share, path_credit = model_totals(Markov(), statistics, journeys)

    assert len(paths) == len(journeys)
    whole = conversion_rate(paths, without="")
    for channel in share.channels:
        lost = 1 - conversion_rate(paths, without=channel.channel) / whole
        assert channel.removal_effect == pytest.approx(lost, abs=1e-12)
    assert [c.conversions for c in share.channels] != [c.conversions for c in path_credit.channels]


def conversion_rate(paths: list[list[str]], without: str) -> float:
    """Count steps with a dictionary, send a channel to null, and solve for the start."""
    steps: Counter[tuple[str, str]] = Counter()
    for path in paths:
        visits = [here for here, there in pairwise([*path, ""]) if here != there]
        steps.update(pairwise(["(start)", *visits]))
    states = sorted({here for here, _ in steps})
    position = {state: number for number, state in enumerate(states)}
    moves, converts = np.zeros((len(states),) * 2), np.zeros(len(states))
    for (here, there), count in steps.items():
        share = count / sum(steps[here, next_] for next_ in [*states, "(conversion)", "(null)"])
        if here == without:
            continue
        if there in position:
            moves[position[here], position[there]] = share
        elif there == "(conversion)":
            converts[position[here]] = share
    rates = np.linalg.solve(np.eye(len(states)) - moves, converts)
    return float(rates[position["(start)"]])
