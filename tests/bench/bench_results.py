"""Results against hand-written SQL over the same files, and the statistics against others'."""

import datetime as dt
import json
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import duckdb
import numpy as np
import pyarrow as pa
from scipy import stats
from tea_tasting.aggr import Aggregates
from tea_tasting.metrics import Mean as TeaMean
from touchstone_statistics.bayes import Bayes, LiftPrior
from touchstone_statistics.contrast import Contrast
from touchstone_statistics.estimand import Mean, estimate
from touchstone_statistics.inference import Fixed
from touchstone_statistics.moments import Moments

from services.results.adapters.lake import LakeMoments
from services.results.application.observing import Observed
from services.results.application.reporting import Inputs, Terms
from services.results.application.reporting import report as make_report
from services.results.domain.analysis_plan import StoredPlan
from services.results.domain.look import Cut
from services.results.domain.measure import Measure, MetricKind
from services.results.domain.metric import Metric, MetricDefinition
from services.results.domain.observation import Arm, ExperimentPlan, Observation, Question
from services.results.domain.reading.beliefs import Prior
from services.results.domain.reading.looking import Place
from services.results.domain.reading.report import Asked
from shared.identity.reader import IdentityReader
from shared.lake.layout import TABLES
from shared.lake.snapshot import EngineLimits, LakeEventTables
from shared.lake.writer import LakeWriter
from shared.testing.fakes import FixedClock
from shared.testing.policies import FixedPolicies
from tests.bench import results_query, results_statistics
from tests.bench.report import BenchRow, compared, missing, peer_environment

AREA = "results"
UNITS, EXPOSURES, CONVERSIONS = 300_000, 900_000, 2_100_000
THREADS = 2
REPEATS = 3
WINDOW = dt.timedelta(days=3)
PLAN = ExperimentPlan("bench", "user", (Arm("a", 5000), Arm("b", 5000)), "a", 1)
MEASURES = (
    Measure(MetricKind.PROPORTION, "visit"),
    Measure(MetricKind.MEAN, "purchase"),
    Measure(MetricKind.PROPORTION, "purchase", WINDOW),
)
COMPARISONS = 2_100
PEER = "gbstats 0.8.0"
T = TypeVar("T")

EVENT_SQL = """
SELECT 'e' || i AS event_id, 'demo' AS project, date '2026-01-01' AS day,
       TIMESTAMPTZ '2026-01-01' + to_seconds(hash(i) % 86400) AS event_time,
       event_time AS receive_time, 'user' AS unit_type, 'u' || unit AS unit_id,
       (hash(unit) // 2)::BIGINT AS unit_key, NULL AS linked_units, NULL AS source,
       NULL AS properties, 1 AS position, 0 AS content_digest, {columns}
FROM (SELECT i, hash(i, {salt}) % {units} AS unit FROM range({rows}) t(i))
"""
EXPOSURE_COLUMNS = """'bench' AS experiment, CASE hash(unit, 7) % 2 WHEN 0 THEN 'a' ELSE 'b' END
AS variant, 1 AS config_version, 'SPLIT' AS reason, NULL AS evaluator"""
CONVERSION_COLUMNS = """CASE i % 3 WHEN 0 THEN 'visit' ELSE 'purchase' END AS event_name,
(hash(i, 3) % 10000) / 100.0::DOUBLE AS value, NULL AS currency"""
BY_HAND = """
WITH units AS (
  SELECT unit_key, min(event_time) AS first, min(variant) AS low, max(variant) AS high
  FROM read_parquet({exposures}) WHERE experiment = 'bench' AND unit_type = 'user' GROUP BY 1),
per_unit AS (
  SELECT c.unit_key, max((event_name = 'visit')::INT) AS x0,
         coalesce(sum(value) FILTER (event_name = 'purchase'), 0) AS x1,
         max((event_name = 'purchase' AND event_time <= first + INTERVAL 3 DAY)::INT) AS x2
  FROM read_parquet({conversions}) c JOIN units ON c.unit_key = units.unit_key
  WHERE low = high AND event_name IN ('visit', 'purchase') AND event_time >= first GROUP BY 1)
SELECT low, count(*), sum(x0), sum(x0 * x0), sum(x1), sum(x1 * x1), sum(x2), sum(x2 * x2)
FROM units LEFT JOIN per_unit USING (unit_key) WHERE low = high GROUP BY 1 ORDER BY 1
"""


def run() -> list[BenchRow]:
    """Every comparison of results."""
    with tempfile.TemporaryDirectory() as folder:
        lake = Path(folder) / "lake"
        write_events(lake)
        rows = [query(lake)]
    return rows + results_query.rows() + statistics() + results_statistics.rows()


def write_events(lake: Path) -> None:
    """The event tables, as the events service writes them."""
    engine = duckdb.connect()
    engine.execute("SET timezone = 'UTC'")
    rows = {}
    for name, columns, count, salt in (
        ("exposures", EXPOSURE_COLUMNS, EXPOSURES, 1),
        ("conversions", CONVERSION_COLUMNS, CONVERSIONS, 2),
    ):
        sql = EVENT_SQL.format(columns=columns, rows=count, units=UNITS, salt=salt)
        table: pa.Table = engine.sql(sql).to_arrow_table()
        rows[name] = table.cast(TABLES[name].schema)
    LakeWriter(lake, "bench", FixedClock()).append(rows, 1)


def query(lake: Path) -> BenchRow:
    """GetResults, from files to figures, beside the sums alone written by hand."""
    tables = LakeEventTables(lake, EngineLimits(threads=THREADS))
    moments = LakeMoments(tables, IdentityReader(FixedPolicies()))
    ours, seen = best_of(lambda: moments.observe(Question("demo", PLAN, MEASURES)))
    reports_s, _ = best_of(lambda: report(seen))
    files = {
        name: [str(path) for path in (lake / name).rglob("*.parquet")]
        for name in ("exposures", "conversions")
    }
    engine = duckdb.connect(config={"threads": THREADS})
    engine.execute("SET timezone = 'UTC'")
    by_hand = BY_HAND.format(**files)
    reference, expected = best_of(lambda: engine.execute(by_hand).fetchall())
    for arm, row in enumerate(expected):
        assert seen.units[arm] == row[1]
        for measure in range(len(MEASURES)):
            total = seen.sums[measure].totals[0, arm, 0]
            assert np.isclose(total, float(row[2 + 2 * measure]))
    return compared(
        AREA,
        f"GetResults, {UNITS:,} units, {EXPOSURES + CONVERSIONS:,} events, 3 metrics",
        ours=(ours + reports_s) * 1e3,
        reference=reference * 1e3,
        reference_name="hand-written DuckDB SQL, the sums alone",
        unit="ms",
        goal="<= 2",
    )


def report(seen: Observation) -> None:
    """All statistics of all metrics."""
    now = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    asked = []
    for index, measure in enumerate(MEASURES):
        definition = MetricDefinition(measure)
        metric = Metric("demo", f"m{index}", definition, 1, now, now)
        asked.append(Asked(metric, definition.role, definition.margin))
    observed = Observed(seen, tuple((seen, index) for index in range(len(MEASURES))))
    place = Place("demo", "bench", "", Cut("journal", 1), 0, now)
    inputs = Inputs(PLAN, StoredPlan(), tuple(asked), observed, {})
    make_report(inputs, Terms(0.05, (), Prior(LiftPrior(), "the bench"), place))


def statistics() -> list[BenchRow]:
    """The statistics of many comparisons at once, beside loops over other libraries."""
    rng = np.random.default_rng(1)
    units = rng.integers(1_000, 100_000, (2, COMPARISONS)).astype(float)
    mean = rng.lognormal(1, 1, (2, COMPARISONS))
    variance = mean**2 * rng.lognormal(0, 0.5, (2, COMPARISONS))
    moments = Moments.of(units, mean[..., None], (variance * (units - 1))[..., None, None])

    def ours() -> np.ndarray:
        arms = estimate(moments, Mean(0))
        contrast = Contrast(arms[0], arms[1])
        Bayes(LiftPrior()).read(contrast)
        return Fixed().read(contrast).p_value

    ours_s, p_values = best_of(ours)
    pairs = np.stack([units, mean, variance], axis=-1).transpose(1, 0, 2).tolist()
    scipy_s, expected = best_of(lambda: scipy_loop(pairs))
    assert np.allclose(p_values, expected, rtol=1e-8)
    tea_s, _ = best_of(lambda: tea_loop(pairs))
    title = f"{COMPARISONS:,} comparisons from moments: Welch, Fieller, posterior"
    return [
        statistics_row(title, ours_s, scipy_s, "scipy ttest_ind_from_stats, p-values alone"),
        statistics_row(title, ours_s, tea_s, "tea-tasting 1.14, from aggregates"),
        beside_gbstats(title, ours_s, pairs),
    ]


def statistics_row(title: str, ours_s: float, reference_s: float, name: str) -> BenchRow:
    return compared(
        AREA,
        title,
        ours=ours_s * 1e3,
        reference=reference_s * 1e3,
        reference_name=name,
        unit="ms",
        goal="<= 0.1",
    )


def scipy_loop(pairs: list[list[list[float]]]) -> list[float]:
    """Welch's p-value by scipy, one comparison at a time."""
    found = []
    for (n0, m0, v0), (n1, m1, v1) in pairs:
        test = stats.ttest_ind_from_stats(
            m1, v1**0.5, int(n1), m0, v0**0.5, int(n0), equal_var=False
        )
        found.append(float(test.pvalue))
    return found


def tea_loop(pairs: list[list[list[float]]]) -> None:
    """tea-tasting's analysis of a mean, one comparison at a time."""
    metric = TeaMean("x", use_t=True)
    for pair in pairs:
        control, treatment = (
            Aggregates(count_=int(n), mean_={"x": m}, var_={"x": v}) for n, m, v in pair
        )
        metric.analyze_aggregates(control, treatment)


def beside_gbstats(title: str, ours_s: float, pairs: list[list[list[float]]]) -> BenchRow:
    python, reason = peer_environment("gbstats", ["gbstats==0.8.0", "numpy<2"])
    if python is not None:
        script = Path(__file__).with_name("results_peers.py")
        done = subprocess.run(
            [str(python), str(script)],
            input=json.dumps({"pairs": pairs}),
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        if done.returncode == 0:
            seconds = float(json.loads(done.stdout)["seconds"])
            return statistics_row(title, ours_s, seconds, f"{PEER}, relative t test")
        lines = done.stderr.strip().splitlines()
        reason = lines[-1] if lines else f"status {done.returncode}"
    return missing(
        AREA,
        title,
        ours=ours_s * 1e3,
        reference_name=PEER,
        unit="ms",
        goal="<= 0.1",
        reason=reason,
    )


def best_of(work: Callable[[], T]) -> tuple[float, T]:
    """The shortest of several runs in seconds, and the answer of the last."""
    best = float("inf")
    for _ in range(REPEATS):
        start = time.perf_counter()
        answer = work()
        best = min(best, time.perf_counter() - start)
    return best, answer
