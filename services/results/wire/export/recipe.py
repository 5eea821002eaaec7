"""The code cells of the notebook, as people read and run them."""

SETTINGS = """
import json
import os
from pathlib import Path

import duckdb
import numpy as np
from deltalake import DeltaTable
from touchstone_statistics.adjust import adjust
from touchstone_statistics.contrast import Contrast
from touchstone_statistics.estimand import Mean, Ratio, estimate
from touchstone_statistics.inference import Fixed
from touchstone_statistics.moments import Moments
from touchstone_statistics.quantile import QuantileCounts, quantile_estimate

LAKE = Path(os.environ.get("TOUCHSTONE_LAKE", ".touchstone/lake"))
ASKED = json.loads(ASKED_JSON)

# The tables as they are together now: the cut is the part of them up to its position in its log.
MARK = json.loads((LAKE / "_watermark.json").read_text())
assert MARK["journal_id"] == ASKED["journal"], "these tables are of another event log"
assert MARK["position"] >= ASKED["position"], "these tables do not reach to the cut yet"

con = duckdb.connect()
VERSIONS = {name: MARK["tables"][name] for name in ("exposures", "conversions")}
for name, version in VERSIONS.items():
    con.register(name, DeltaTable(str(LAKE / name), version=version).to_pyarrow_dataset())
print(f"cut {ASKED['cut']}, read from the Delta versions {VERSIONS}")
"""

QUERY = '''
# One row a unit: its first exposure to a variant of the experiment, and that variant.
con.execute(
    """
    CREATE OR REPLACE TEMP TABLE units AS
    WITH seen AS (
        SELECT unit_key, event_time, variant, reason,
               list_position($variants, variant) AS place
        FROM exposures
        WHERE project = $project AND experiment = $experiment
          AND unit_type = $unit_type AND position <= $position
    )
    SELECT unit_key,
           min(event_time) FILTER (place > 0) AS first,
           arg_min(variant, (event_time, place)) FILTER (place > 0) AS variant,
           count(DISTINCT variant) FILTER (place > 0) AS variants
    FROM seen
    GROUP BY unit_key
    HAVING count(*) FILTER (place > 0) > 0
       AND NOT bool_or(lower(coalesce(reason, '')) = 'forced')
    """,
    {name: ASKED[name] for name in ("variants", "project", "experiment", "unit_type", "position")},
)
con.execute("DELETE FROM units WHERE list_contains($forced, unit_key)", {"forced": ASKED["forced"]})
if ASKED["exposures"] == "exclude":
    con.execute("DELETE FROM units WHERE variants > 1")


def is_of(event):
    """Whether an event has a name."""
    return "event_name = '" + event.replace("'", "\'\'") + "'"


def amount(source, span):
    """The number of a unit from the events of one source in a span of time."""
    counts, how = f"({is_of(source['event'])} AND {span})", source["aggregation"]
    if how == "count":
        return f"CAST(count(*) FILTER ({counts}) AS DOUBLE)"
    if how == "distinct-days":
        days = "date_trunc('day', event_time AT TIME ZONE 'UTC')"
        return f"CAST(count(DISTINCT {days}) FILTER ({counts}) AS DOUBLE)"
    value = "value"
    if source["currency"]:
        value = f"CASE WHEN currency = '{source['currency']}' THEN value END"
    function = {
        "sum": f"sum({value})",
        "mean": f"avg({value})",
        "min": f"min({value})",
        "max": f"max({value})",
        "first": f"arg_min({value}, (event_time, {value}))",
        "last": f"arg_max({value}, (event_time, {value}))",
    }[how]
    return f"coalesce({function} FILTER ({counts} AND ({value}) IS NOT NULL), 0.0)"


def flag(event, span):
    """1 for a unit with an event in a span of time, otherwise 0."""
    return f"coalesce(max(CASE WHEN {is_of(event)} AND {span} THEN 1.0 ELSE 0.0 END), 0.0)"


def time_to(event, span, high_us):
    """Seconds to the first event, or to the end of the span: in steps of 2**-20 of a second."""
    first_us = "date_diff('microsecond', first, event_time)"
    steps = f"min(round({first_us} * {2**20 * 1e-6!r})) FILTER ({is_of(event)} AND {span})"
    return f"coalesce({steps}, round({high_us} * {2**20 * 1e-6!r})) / {2**20}"


def took_all(steps, span):
    """1 for a unit that took every step, each at the earliest time not before the one before."""
    source, after = "timed", "true"
    for event in steps:
        found = f"""
            SELECT unit_key, min(event_time) AS taken FROM {source}
            WHERE {is_of(event)} AND {span} AND {after} GROUP BY unit_key
        """
        source, after = f"timed JOIN ({found}) USING (unit_key)", "event_time >= taken"
    return f"CAST(unit_key IN (SELECT unit_key FROM ({found})) AS DOUBLE)"


def own_columns(metric):
    """The numbers that count, each an expression over the events of a unit."""
    span = f"event_time >= first + to_microseconds({metric['low_us']})"
    if metric["high_us"] is not None:
        span += f" AND event_time <= first + to_microseconds({metric['high_us']})"
    if metric["steps"]:
        return [took_all(metric["steps"], span)]
    if metric["kind"] == "share":
        return [flag(metric["sources"][0]["event"], span)]
    if metric["kind"] == "time-to-event":
        return [time_to(metric["sources"][0]["event"], span, metric["high_us"])]
    columns = [amount(source, span) for source in metric["sources"]]
    if metric["cap"] is not None:
        columns = [f"least({one}, {metric['cap']!r})" for one in columns]
    return columns


def columns_before(metric):
    """The numbers from before the exposure of a unit."""
    if metric["lookback_us"] is None:
        return []
    back = f"to_microseconds({metric['lookback_us']})"
    span = f"event_time >= first - {back} AND event_time < first"
    if metric["kind"] in ("share", "time-to-event"):
        own = [flag(metric["sources"][0]["event"], span)]
    else:
        own = [amount(source, span) for source in metric["sources"]]
    return own + [amount(source, span) for source in metric["covariates"]]


def unit_rows(metric):
    """Variant and numbers of every unit: those that count, then those from before its exposure."""
    columns = [*own_columns(metric), *columns_before(metric)]
    sources = [*metric["sources"], *metric["covariates"]]
    names = [source["event"] for source in sources] + metric["steps"]
    asked = {name: ASKED[name] for name in ("project", "unit_type", "position")}
    con.execute(
        """
        CREATE OR REPLACE TEMP TABLE timed AS
        SELECT unit_key, first, event_time, event_name, value, currency
        FROM conversions JOIN units USING (unit_key)
        WHERE project = $project AND unit_type = $unit_type AND position <= $position
          AND list_contains($names, event_name)
        """,
        asked | {"names": names},
    )
    old = "true"
    if metric["age_us"] is not None:
        newest = ASKED["data_us"] - metric["age_us"]
        old = f"epoch_us(units.first) <= {newest}"
    return con.execute(
        f"""
        SELECT units.variant, {', '.join(columns)}
        FROM units LEFT JOIN timed USING (unit_key, first)
        WHERE {old}
        GROUP BY unit_key, units.variant, first
        ORDER BY unit_key
        """
    ).fetchnumpy()
'''

STATISTICS = '''
def numbers_of(metric):
    """The numbers of the units of each arm, in the order of the variants."""
    rows = list(unit_rows(metric).values())
    variants = np.asarray(rows[0])
    numbers = np.column_stack([np.asarray(part, dtype=float) for part in rows[1:]])
    return [numbers[variants == variant] for variant in ASKED["variants"]]


def moments(metric):
    """Centred moments of every arm, in the order of the variants."""
    arms = [Moments.from_rows(numbers) for numbers in numbers_of(metric)]
    return Moments.of(
        [arm.units for arm in arms], [arm.mean for arm in arms], [arm.co_moment for arm in arms]
    )


def quantiles(metric):
    """The quantile of every arm."""
    share = metric["quantile"]
    arms = [QuantileCounts.from_values(one[:, 0], share) for one in numbers_of(metric)]
    stacked = {
        name: np.array([getattr(arm, name) for arm in arms])
        for name in ("count", "low", "centre", "high")
    }
    return quantile_estimate(QuantileCounts(**stacked), share)


def contrast(metric):
    """Every treatment against the control; covariates take off variance where there are any."""
    control = ASKED["control"]
    others = [place for place in range(len(ASKED["variants"])) if place != control]
    if metric["quantile"] is not None:
        plain = quantiles(metric)
        return Contrast(plain[control : control + 1], plain[others])
    arms, wide = moments(metric), len(metric["sources"])
    own = Mean(0) if wide == 1 else Ratio(0, 1)
    if metric["lookback_us"] is not None:
        before = [Mean(wide) if wide == 1 else Ratio(wide, wide + 1)]
        before += [Mean(2 * wide + place) for place in range(len(metric["covariates"]))]
        adjusted = adjust(arms, own, before)
        if adjusted.used.any():
            return adjusted.joint.contrast(control)
    plain = estimate(arms, own)
    return Contrast(plain[control : control + 1], plain[others])
'''

CHECK = """
CHECKED = {}
for metric in ASKED["metrics"]:
    found = contrast(metric)
    numbers = {
        "difference": found.difference,
        "std_err": found.std_err,
        "lift": found.lift,
        "p_value": Fixed(ASKED["alpha"]).read(found).p_value,
    }
    for name, values in numbers.items():
        pairs = zip(values, metric["expected"][name], strict=True)
        CHECKED[metric["metric"], name] = all(
            np.isclose(ours, theirs, rtol=1e-9, atol=1e-12)
            for ours, theirs in pairs
            if theirs is not None
        )
    shown = {name: [float(f"{value:.6g}") for value in values] for name, values in numbers.items()}
    print(metric["metric"], shown)
wrong = [name for name, same in CHECKED.items() if not same]
assert not wrong, f"these are not what the results say: {wrong}"
"""
