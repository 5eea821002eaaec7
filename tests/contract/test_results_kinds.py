"""Every kind of measure against numbers that Python computes unit by unit and event by event."""

import datetime as dt
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.results.domain.measure import Aggregation, Cap, Measure, MetricKind, Retention, Source
from services.results.domain.observation import MultipleExposures, Observation, Slice
from shared.filters.filter import AllOf, AnyOf, Comparison, Filter, Negated, Operator
from tests.contract.results_log import START, Log, Row, conversion, exposure
from tests.contract.results_recount import moments_of, table_of, units_of

DAY, HOUR = dt.timedelta(days=1), dt.timedelta(hours=1)
WEB = Comparison("properties.platform", Operator.EQUAL, ("web",))
BUY = Source("buy")
PROPORTION, MEAN, RATIO = MetricKind.PROPORTION, MetricKind.MEAN, MetricKind.RATIO
STEPS = (Source("view"), Source("click", WEB), Source("buy"), Source("view"))
NAMES = ("view", "click", "buy")


def summed(aggregation: Aggregation, **more: Any) -> Measure:
    return Measure(MEAN, "buy", aggregation=aggregation, **more)


MEASURES = {
    "proportion": Measure(PROPORTION, "buy"),
    "window": Measure(PROPORTION, "buy", DAY),
    "delay": Measure(PROPORTION, "click", 2 * DAY, delay=DAY, filter=WEB),
    "sum": Measure(MEAN, "buy", DAY, lookback=DAY),
    "count": summed(Aggregation.COUNT, lookback=DAY),
    "mean of events": summed(Aggregation.MEAN),
    "least": summed(Aggregation.MIN),
    "most": summed(Aggregation.MAX, currency="EUR"),
    "first": summed(Aggregation.FIRST),
    "last": summed(Aggregation.LAST, filter=WEB),
    "days": summed(Aggregation.DISTINCT_DAYS),
    "currency": Measure(MEAN, "buy", currency="USD"),
    "capped": Measure(MEAN, "buy", cap=Cap(absolute=20.0)),
    "capped at a percentile": Measure(MEAN, "buy", cap=Cap(percentile=0.9)),
    "capped without zeros": Measure(MEAN, "buy", cap=Cap(percentile=0.5, ignore_zeros=True)),
    "capped below zero": Measure(MEAN, "buy", cap=Cap(percentile=0.02)),
    "ratio": Measure(
        RATIO,
        "buy",
        denominator=Source("view", aggregation=Aggregation.COUNT),
        cap=Cap(percentile=0.8),
        lookback=2 * DAY,
        covariates=(Source("click", WEB, Aggregation.COUNT), Source("buy", currency="EUR")),
    ),
    "complete": Measure(MEAN, "buy", DAY, complete_only=True, cap=Cap(percentile=0.9)),
    "funnel": Measure(MetricKind.FUNNEL, "view", 2 * DAY, steps=STEPS, lookback=DAY),
    "next day": Measure(MetricKind.RETENTION, "view", retention=Retention(1, 1), lookback=DAY),
    "first days": Measure(MetricKind.RETENTION, "view", retention=Retention(0, 2)),
    "time": Measure(MetricKind.TIME_TO_EVENT, "buy", DAY, lookback=DAY),
    "time after": Measure(MetricKind.TIME_TO_EVENT, "buy", DAY, delay=HOUR),
}


def random_world(seed: int, units: int = 60, events: int = 500) -> tuple[list[Row], list[Row]]:
    """Exposures and conversions; minutes are coarse, so that many fall on one instant."""
    rng = np.random.default_rng(seed)

    def properties() -> str | None:
        found = {"platform": ["web", "ios", 5, True, None][rng.integers(0, 5)]}
        return None if rng.random() < 0.2 else json.dumps(found)

    exposures = [
        exposure(
            f"u{unit}",
            str(rng.choice(list("aaabbbc"))) if rng.random() < 0.2 else "ab"[unit % 2],
            10 * int(rng.integers(0, 300)),
            source=["app", "site", None][rng.integers(0, 3)],
            properties=properties(),
        )
        for unit in rng.integers(0, units, 2 * units)
    ]
    conversions = [
        conversion(
            f"u{rng.integers(0, units)}",
            str(rng.choice(NAMES)),
            10 * int(rng.integers(-300, 600)),
            round(float(rng.normal(20, 30)), 2) if rng.random() < 0.8 else None,
            currency=["EUR", "USD", None][rng.integers(0, 3)],
            properties=properties(),
        )
        for _ in range(events)
    ]
    return exposures, conversions


def data_time(exposures: list[Row], conversions: list[Row]) -> dt.datetime:
    found: list[dt.datetime] = [row["event_time"] for row in (*exposures, *conversions)]
    return max(found)


def check(
    seen: Observation,
    exposures: list[Row],
    conversions: list[Row],
    measures: list[Measure],
    first_wins: bool = False,
) -> None:
    """Every measure, slice and arm."""
    everybody = units_of(exposures, "ab", first_wins)
    now = data_time(exposures, conversions)
    for m, measure in enumerate(measures):
        moments = seen.moments(m)
        table = table_of(everybody, conversions, measure, now)
        for s, part in enumerate(seen.slices):
            for a, arm in enumerate("ab"):
                names = [u.name for u in everybody if u.arm == arm and within(u.at_first, part)]
                rows = [table[name] for name in names if name in table]
                assert part.units[a] == len(names)
                count, mean, spread = moments_of(rows, len(measure.columns))
                where = f"{measure.kind}, {part}, {arm}"
                assert moments.units[s, a] == count, where
                assert moments.mean[s, a] == pytest.approx(mean, rel=1e-6, abs=1e-6), where
                found = moments.co_moment[s, a]
                assert found == pytest.approx(spread, rel=1e-6, abs=1e-3), where


def within(at_first: Mapping[str, Any], part: Slice) -> bool:
    return not part.dimension or shown(at_first, part.dimension) == part.value


def shown(row: Mapping[str, Any], dimension: str) -> str | None:
    if not dimension.startswith("properties."):
        found: str | None = row.get(dimension)
        return found
    key = dimension.removeprefix("properties.")
    value = json.loads(row.get("properties") or "{}").get(key)
    return value if value is None or isinstance(value, str) else json.dumps(value)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Log, list[Row], list[Row]]:
    log = Log(tmp_path_factory.mktemp("kinds") / "lake")
    exposures, conversions = random_world(1)
    log.add("exposures", exposures)
    log.add("conversions", conversions)
    return log, exposures, conversions


World = tuple[Log, list[Row], list[Row]]


@pytest.mark.parametrize("name", MEASURES)
def test_each_kind_alone(world: World, name: str) -> None:
    log, exposures, conversions = world
    check(log.ask(MEASURES[name]), exposures, conversions, [MEASURES[name]])


@pytest.mark.parametrize("policy", MultipleExposures)
def test_all_kinds_at_once_by_slice(world: World, policy: MultipleExposures) -> None:
    log, exposures, conversions = world
    measures = list(MEASURES.values())
    dimensions = ("properties.platform", "source")
    seen = log.ask(*measures, dimensions=dimensions, multiple_exposures=policy)
    first_wins = policy is MultipleExposures.FIRST
    check(seen, exposures, conversions, measures, first_wins)
    alone = log.ask(*measures, multiple_exposures=policy)
    assert alone.slices == seen.slices[:1]
    assert [s.cells[0] for s in alone.sums] == [s.cells[0] for s in seen.sums]


def test_all_kinds_without_a_single_unit(tmp_path: Path) -> None:
    seen = Log(tmp_path / "lake").ask(*MEASURES.values(), dimensions=("source",))
    assert len(seen.slices) == 1
    for m, measure in enumerate(MEASURES.values()):
        moments = seen.moments(m)
        assert moments.mean.shape == (1, 2, len(measure.columns))
        assert not moments.units.any()
        assert not moments.mean.any()


TEXTS = ("web", "5", "")
comparisons = st.builds(
    Comparison,
    st.sampled_from(["value", "currency", "source", "properties.platform", "properties./~.$"]),
    st.sampled_from([o for o in Operator if o is not Operator.MATCHES]),
    st.tuples(st.one_of(st.sampled_from(TEXTS), st.sampled_from([5.0, 1.5, -2.0]), st.booleans())),
)


def applicable(comparison: Comparison) -> bool:
    of_text = {Operator.CONTAINS, Operator.STARTS_WITH, Operator.ENDS_WITH}
    ordered = {
        *(Operator.LESS, Operator.LESS_OR_EQUAL),
        *(Operator.GREATER, Operator.GREATER_OR_EQUAL),
    }
    (value,) = comparison.values
    if comparison.operator in of_text:
        return isinstance(value, str)
    return not (comparison.operator in ordered and isinstance(value, bool))


filters: st.SearchStrategy[Filter] = st.recursive(
    comparisons.filter(applicable),
    lambda inner: st.one_of(
        st.builds(AllOf, st.lists(inner, max_size=2).map(tuple)),
        st.builds(AnyOf, st.lists(inner, max_size=2).map(tuple)),
        st.builds(Negated, inner),
    ),
    max_leaves=4,
)


@settings(max_examples=25, deadline=None)
@given(st.lists(filters, min_size=1, max_size=4))
def test_filters_choose_the_same_events(filter_world: World, found: list[Filter]) -> None:
    log, exposures, conversions = filter_world
    measures = [Measure(MEAN, "buy", filter=one, aggregation=Aggregation.COUNT) for one in found]
    check(log.ask(*measures), exposures, conversions, measures)


@pytest.fixture(scope="module")
def filter_world(tmp_path_factory: pytest.TempPathFactory) -> World:
    log = Log(tmp_path_factory.mktemp("filters") / "lake")
    exposures = [exposure(f"u{n}", "ab"[n % 2], -1) for n in range(8)]
    platforms: list[Any] = ["web", "Web", "5", 5, 1.5, True, False, None, "", [5], {"a": 1}, -2]
    conversions = [
        conversion(
            f"u{n % 8}",
            "buy",
            n,
            [None, 5.0, 1.5, -2.0, 0.0][n % 5],
            currency=[None, "web", "5"][n % 3],
            source=["", "web", None, "5 web"][n % 4],
            properties=None if n % 11 == 0 else json.dumps({"platform": value, "/~.$": value}),
        )
        for n, value in enumerate(platforms * 3)
    ]
    log.add("exposures", exposures)
    log.add("conversions", conversions)
    return log, exposures, conversions


def test_a_pattern_is_looked_for_anywhere(filter_world: World) -> None:
    log, exposures, conversions = filter_world
    found = Comparison("properties.platform", Operator.MATCHES, ("^[wW]e",))
    measures = [Measure(MEAN, "buy", filter=found, aggregation=Aggregation.COUNT)]
    check(log.ask(*measures), exposures, conversions, measures)


def test_the_order_of_arrival_changes_no_bit_of_any_kind(tmp_path: Path) -> None:
    exposures, conversions = random_world(5)
    measures = tuple(MEASURES.values())
    rng, seen = np.random.default_rng(6), []
    for name, parts in (("one", 1), ("many", 9)):
        log = Log(tmp_path / name)
        for table, rows in (("exposures", exposures), ("conversions", conversions)):
            for part in np.array_split(rng.permutation(len(rows)), parts):
                log.add(table, [rows[i] for i in part])
        seen.append(log.ask(*measures, dimensions=("source", "properties.platform")))
    assert seen[0].sums == seen[1].sums
    assert seen[0].slices == seen[1].slices


def test_units_whose_window_is_not_over_are_counted(tmp_path: Path) -> None:
    log = Log(tmp_path / "lake")
    rows = [exposure(f"u{n}", "ab"[n % 2], 60 * n) for n in range(10)]
    log.add("exposures", rows)
    measures = (Measure(PROPORTION, "buy"), Measure(PROPORTION, "buy", 4 * HOUR))
    seen = log.ask(*measures)
    assert seen.incomplete == ((0, 0), (2, 2))
    assert seen.cut.data_time == START + 9 * HOUR


def test_multiply_exposed_units_are_counted_by_what_they_saw_first(tmp_path: Path) -> None:
    log = Log(tmp_path / "lake")
    seen = [("u1", "a", 0), ("u1", "b", 1), ("u2", "b", 0), ("u2", "a", 1), ("u3", "b", 5)]
    # At one instant the first of the plan comes first.
    seen += [("u4", "b", 3), ("u4", "a", 3), ("u5", "b", 2)]
    log.add("exposures", [exposure(*row) for row in seen])
    excluded = log.ask(MEASURES["proportion"])
    assert (excluded.units, excluded.multiply_exposed) == ((0, 2), (2, 1))
    first = log.ask(MEASURES["proportion"], multiple_exposures=MultipleExposures.FIRST)
    assert (first.units, first.multiply_exposed) == ((2, 3), (2, 1))
