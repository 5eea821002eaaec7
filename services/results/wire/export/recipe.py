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

LAKE = Path(os.environ.get("TOUCHSTONE_LAKE", ".touchstone/lake"))
ASKED = json.loads(ASKED_JSON)

con = duckdb.connect()
for name in ("exposures", "conversions"):
    con.register(name, DeltaTable(str(LAKE / name)).to_pyarrow_dataset())
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


def column(source, span, share):
    """The number of a unit from the events of one source in a span of time."""
    event = "event_name = '" + source["event"].replace("'", "''") + "'"
    counts = f"({event} AND {span})"
    if share:
        return f"coalesce(max(CASE WHEN {counts} THEN 1.0 ELSE 0.0 END), 0.0)"
    if source["count"]:
        return f"CAST(count(*) FILTER ({counts}) AS DOUBLE)"
    value = "value"
    if source["currency"]:
        value = f"CASE WHEN currency = '{source['currency']}' THEN value END"
    return f"coalesce(sum({value}) FILTER ({counts}), 0.0)"


def unit_rows(metric):
    """Variant and numbers of every unit: those that count, then those from before its exposure."""
    after = f"event_time >= first + to_microseconds({metric['delay_us']})"
    if metric["window_us"] is not None:
        after += f" AND event_time <= first + to_microseconds({metric['window_us']})"
    spans = [after]
    if metric["lookback_us"] is not None:
        back = f"to_microseconds({metric['lookback_us']})"
        spans.append(f"event_time >= first - {back} AND event_time < first")
    columns = [
        column(source, span, metric["share"]) for span in spans for source in metric["sources"]
    ]
    names = [source["event"] for source in metric["sources"]]
    query = f"""
        SELECT units.variant, {', '.join(columns)}
        FROM units
        LEFT JOIN (
            SELECT unit_key, event_time, event_name, value, currency
            FROM conversions
            WHERE project = $project AND unit_type = $unit_type AND position <= $position
              AND list_contains($names, event_name)
        ) events USING (unit_key)
        GROUP BY unit_key, units.variant, first
        ORDER BY unit_key
    """
    asked = {name: ASKED[name] for name in ("project", "unit_type", "position")}
    return con.execute(query, asked | {"names": names}).fetchnumpy()
'''

STATISTICS = '''
def moments(metric):
    """Centred moments of every arm, in the order of the variants."""
    rows = list(unit_rows(metric).values())
    variants = np.asarray(rows[0])
    numbers = np.column_stack([np.asarray(part, dtype=float) for part in rows[1:]])
    arms = [Moments.from_rows(numbers[variants == variant]) for variant in ASKED["variants"]]
    return Moments.of(
        [arm.units for arm in arms], [arm.mean for arm in arms], [arm.co_moment for arm in arms]
    )


def contrast(metric):
    """Every treatment against the control; covariates take off variance where there are any."""
    arms, control = moments(metric), ASKED["control"]
    wide = len(metric["sources"])
    own = Mean(0) if wide == 1 else Ratio(0, 1)
    if metric["lookback_us"] is not None:
        before = Mean(wide) if wide == 1 else Ratio(wide, wide + 1)
        adjusted = adjust(arms, own, [before])
        if adjusted.used.any():
            return adjusted.joint.contrast(control)
    plain = estimate(arms, own)
    others = [place for place in range(len(ASKED["variants"])) if place != control]
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
