"""The promises of MomentsSource, held against sums that Python computes event by event."""

import datetime as dt
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.results.domain.measure import Measure, MetricKind
from services.results.domain.observation import (
    Links,
    Observation,
)
from shared.errors import DomainError
from shared.identity.belonging import Stitching
from shared.lake.watermark import ConsistencyToken
from tests.contract.results_log import PLAN, START, Log, Row, conversion, exposure

VISIT = Measure(MetricKind.PROPORTION, "visit")
SPEND = Measure(MetricKind.MEAN, "purchase")
SOON = Measure(MetricKind.MEAN, "purchase", dt.timedelta(hours=1))

USER_3 = {"type": "user", "id": "u3"}


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path / "lake")


def sums(observation: Observation, measure: int) -> list[float]:
    found: list[float] = observation.sums[measure].totals[0, :, 0].tolist()
    return found


def test_nothing_written_is_no_units(log: Log) -> None:
    seen = log.ask(VISIT, SPEND)
    assert seen.units == (0, 0)
    assert sums(seen, 1) == [0.0, 0.0]
    assert seen.moments(0).units.tolist() == [[0, 0]]


def test_exposures_without_any_conversion_count_as_zero(log: Log) -> None:
    log.add("exposures", [exposure("u1", "a"), exposure("u2", "b"), exposure("u3", "b")])
    seen = log.ask(VISIT, SPEND)
    assert seen.units == (1, 2)
    assert sums(seen, 0) == [0.0, 0.0]
    assert seen.moments(1).mean.tolist() == [[[0.0], [0.0]]]


def test_events_count_from_the_first_exposure_on_and_within_the_window(log: Log) -> None:
    log.add("exposures", [exposure("u1", "a", 10), exposure("u1", "a", 500), exposure("u2", "b")])
    log.add(
        "conversions",
        [
            conversion("u1", "purchase", 9.99, 1000.0),
            conversion("u1", "purchase", 10, 1.0),
            conversion("u1", "purchase", 70, 20.0),
            conversion("u1", "purchase", 70.01, 300.0),
            conversion("u1", "purchase", 80, None),
            conversion("u1", "visit", 5),
            conversion("u2", "visit", 1),
            conversion("u2", "visit", 2),
            conversion("nobody", "visit", 3),
        ],
    )
    seen = log.ask(VISIT, SPEND, SOON)
    assert sums(seen, 0) == [0.0, 1.0]
    assert sums(seen, 1) == pytest.approx([321.0, 0.0], rel=1e-12)
    assert sums(seen, 2) == pytest.approx([21.0, 0.0], rel=1e-12)


def test_a_unit_of_several_variants_is_counted_apart(log: Log) -> None:
    log.add("exposures", [exposure("u1", "a"), exposure("u1", "b", 5), exposure("u2", "b")])
    log.add("conversions", [conversion("u1", "visit", 9), conversion("u2", "visit", 9)])
    seen = log.ask(VISIT)
    assert seen.units == (0, 1)
    assert seen.multiply_exposed_units == 1
    assert sums(seen, 0) == [0.0, 1.0]


def test_what_is_not_the_experiments_is_left_out(log: Log) -> None:
    log.add(
        "exposures",
        [
            exposure("u1", "a"),
            exposure("u1", "c", 1),
            exposure("u2", "c"),
            exposure("u3", "b", experiment="another"),
            exposure("u4", "b", unit_type="device"),
            exposure("u5", "b", project="other"),
        ],
    )
    seen = log.ask(VISIT)
    assert seen.units == (1, 0)
    assert seen.unknown_variant_exposures == 2
    assert seen.multiply_exposed_units == 0


def test_events_of_linked_units_count(log: Log) -> None:
    def device(name: str, *users: str) -> Row:
        linked = [{"type": "user", "id": user} for user in users]
        more = [{"type": "org", "id": '"user"'}] if name == "d3" else []
        return {"unit_type": "device", "unit_id": name, "linked_units": more + linked}

    log.add("exposures", [exposure("u1", "a"), exposure("u2", "b", linked_units=[])])
    log.add("exposures", [exposure("", "b") | device("d1", "u3"), exposure("", "b") | device("d3")])
    log.add(
        "conversions",
        [
            conversion("u1", "purchase", 1, 1.0),
            conversion("", "purchase", 1, 10.0) | device("d1", "u1", "u2"),
            conversion("", "purchase", 2, 100.0) | device("d2", "u3"),
            conversion("", "purchase", 2, 1000.0) | device("d3"),
        ],
    )
    seen = log.ask(SPEND)
    assert seen.units == (1, 2)
    assert sums(seen, 0) == pytest.approx([11.0, 100.0])


DEVICES = replace(PLAN, unit_type="device")


def link(device: str, user: str, minutes: float = 0) -> Row:
    time = START + dt.timedelta(minutes=minutes)
    other = {"other_unit_type": "user", "other_unit_id": user}
    return {"unit_type": "device", "unit_id": device, "event_time": time} | other


def of_device(row: Row) -> Row:
    return row | {"unit_type": "device"}


def test_a_metric_of_the_user_counts_for_an_experiment_on_devices(log: Log) -> None:
    log.add("identifies", [link("d1", "u1"), link("d2", "u2")])
    log.add("exposures", [of_device(exposure("d1", "a")), of_device(exposure("d2", "b"))])
    log.add(
        "conversions",
        [
            conversion("u1", "purchase", 1, 1.0),
            conversion("u2", "purchase", 1, 10.0),
            conversion("u3", "purchase", 1, 100.0),
            of_device(conversion("d2", "purchase", 2, 1000.0)),
        ],
    )
    seen = log.ask(SPEND, plan=DEVICES)
    assert seen.units == (1, 1)
    assert sums(seen, 0) == pytest.approx([1.0, 1010.0])
    assert seen.links.version.startswith("p0-e1-")


def test_events_of_devices_count_for_an_experiment_on_users(log: Log) -> None:
    log.add("identifies", [link("d1", "u1"), link("d2", "u1"), link("d3", "u3")])
    log.add("exposures", [exposure("u1", "a"), of_device(exposure("d3", "b"))])
    bought = [of_device(conversion(f"d{n}", "purchase", 1, 10.0**n)) for n in range(1, 5)]
    log.add("conversions", bought)
    seen = log.ask(SPEND)
    assert seen.units == (1, 1)
    assert sums(seen, 0) == pytest.approx([110.0, 1000.0])
    assert (seen.links.ambiguous_exposures, seen.links.ambiguous_conversions) == (0, 0)


def test_what_could_be_of_several_units_is_left_out_and_counted(log: Log) -> None:
    log.add("identifies", [link("d1", "u1"), link("d2", "u1")])
    log.add("exposures", [of_device(exposure(d, "ab"[n])) for n, d in enumerate(("d1", "d2"))])
    log.add("exposures", [exposure("u1", "b")])
    log.add(
        "conversions",
        [
            conversion("u1", "purchase", 1, 1.0),
            conversion("u1", "purchase", -1, 1.0),
            of_device(conversion("d1", "purchase", 1, 10.0)),
        ],
    )
    seen = log.ask(SPEND, plan=DEVICES)
    assert seen.units == (1, 1)
    assert sums(seen, 0) == pytest.approx([10.0, 0.0])
    # The one before the first exposure of all is not asked about.
    assert (seen.links.ambiguous_exposures, seen.links.ambiguous_conversions) == (1, 1)


def test_a_link_counts_from_its_time_on_where_that_is_asked_for(log: Log) -> None:
    log.add("identifies", [link("d1", "u1", 10)])
    log.add("exposures", [exposure("u1", "a")])
    bought = [(5, 1.0), (15, 10.0)]
    log.add("conversions", [of_device(conversion("d1", "purchase", *one)) for one in bought])
    assert sums(log.ask(SPEND), 0)[0] == pytest.approx(11.0)
    then = log.ask(SPEND, stitching=Stitching.POINT_IN_TIME)
    assert sums(then, 0)[0] == pytest.approx(10.0)


def test_without_links_nothing_is_asked_of_the_policy_and_nothing_is_said(log: Log) -> None:
    log.add("exposures", [exposure("u1", "a")])
    assert log.ask(SPEND).links == Links()
    assert log.policies.asked == 0


def random_events(seed: int) -> tuple[list[Row], list[Row]]:
    rng = np.random.default_rng(seed)
    exposures = [exposure(f"u{i}", "ab"[i % 2], float(rng.integers(0, 3000))) for i in range(400)]
    conversions = [
        conversion(
            f"u{rng.integers(0, 500)}",
            str(rng.choice(["visit", "purchase"])),
            float(rng.integers(0, 5000)),
            float(rng.lognormal(3, 2)) if rng.random() < 0.9 else None,
        )
        for _ in range(3000)
    ]
    return exposures, conversions


def expected_moments(
    exposures: list[Row], conversions: list[Row], measure: Measure
) -> list[tuple[int, float, float]]:
    """Count, mean and centred second moment of each arm, in exact fractions."""
    first = {row["unit_id"]: (row["event_time"], row["variant"]) for row in exposures}
    totals = {unit: Fraction(0) for unit in first}
    for row in conversions:
        if row["unit_id"] not in first or row["event_name"] != measure.event_name:
            continue
        late = row["event_time"] - first[row["unit_id"]][0]
        if late < dt.timedelta(0) or (measure.window is not None and late > measure.window):
            continue
        if measure.kind is MetricKind.PROPORTION:
            totals[row["unit_id"]] = Fraction(1)
        elif row["value"] is not None:
            totals[row["unit_id"]] += Fraction(row["value"])
    answer = []
    for variant in "ab":
        values = [total for unit, total in totals.items() if first[unit][1] == variant]
        mean = sum(values, Fraction(0)) / len(values)
        spread = sum(((value - mean) ** 2 for value in values), Fraction(0))
        answer.append((len(values), float(mean), float(spread)))
    return answer


def test_moments_match_exact_sums_over_events(log: Log) -> None:
    exposures, conversions = random_events(1)
    log.add("exposures", exposures)
    log.add("conversions", conversions)
    measures = (VISIT, SPEND, SOON, Measure(MetricKind.PROPORTION, "purchase", dt.timedelta(1)))
    seen = log.ask(*measures)
    for m, measure in enumerate(measures):
        moments = seen.moments(m)[0]
        for arm, expected in enumerate(expected_moments(exposures, conversions, measure)):
            count, mean, spread = expected
            assert moments.units[arm] == count
            assert moments.mean[arm, 0] == pytest.approx(mean, rel=1e-12)
            assert moments.co_moment[arm, 0, 0] == pytest.approx(spread, rel=1e-11)


def test_the_order_of_arrival_does_not_change_a_bit(tmp_path: Path) -> None:
    exposures, conversions = random_events(2)
    one, many = Log(tmp_path / "one"), Log(tmp_path / "many")
    one.add("exposures", exposures)
    one.add("conversions", conversions)
    order = np.random.default_rng(3).permutation(len(conversions))
    for part in np.array_split(order, 7):
        many.add("conversions", [conversions[i] for i in part])
    many.add("exposures", exposures[::-1])
    assert one.ask(SPEND, SOON).sums == many.ask(SPEND, SOON).sums


@pytest.mark.parametrize("offset", [0.0, 1e9, -1e12])
def test_a_large_mean_does_not_cancel(log: Log, offset: float) -> None:
    values = np.random.default_rng(4).normal(size=300) + offset
    log.add("exposures", [exposure(f"u{i}", "ab"[i % 2]) for i in range(300)])
    log.add("conversions", [conversion(f"u{i}", "purchase", 1, v) for i, v in enumerate(values)])
    covariance = log.ask(SPEND).moments(0).covariance[0, :, 0, 0]
    centred = values - offset
    expected = [centred[arm::2].var(ddof=1) for arm in (0, 1)]
    assert covariance == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("value", [1e300, 1e-300, 5e-324, -1e18])
def test_extreme_values_are_summed(log: Log, value: float) -> None:
    log.add("exposures", [exposure("u1", "a"), exposure("u2", "b")])
    log.add("conversions", [conversion("u1", "purchase", 1, value) for _ in range(3)])
    expected = 3 * value if abs(value) > 1e-290 else 0.0
    assert log.ask(SPEND).moments(0).mean[0, 0, 0] == pytest.approx(expected, rel=1e-12)


def test_an_event_that_is_not_summed_up_may_be_of_any_size(log: Log) -> None:
    log.add("exposures", [exposure("u1", "a"), exposure("u2", "b")])
    log.add("conversions", [conversion("u1", "purchase", 1, 7.0)])
    log.add("conversions", [conversion("u1", "visit", 1, 1e300)])
    seen = log.ask(SPEND, VISIT)
    assert (sums(seen, 0), sums(seen, 1)) == ([7.0, 0.0], [1.0, 0.0])


async def test_a_cut_that_does_not_come_is_unavailable(log: Log) -> None:
    log.add("exposures", [exposure("u1", "a")])
    await log.source.wait_until(ConsistencyToken("journal", 1).encode(), 0.05)
    seen = log.ask(VISIT)
    assert seen.cut.token == ConsistencyToken("journal", 1).encode()
    assert seen.cut.commit_time is not None
    with pytest.raises(DomainError) as caught:
        await log.source.wait_until(ConsistencyToken("journal", 2).encode(), 0.05)
    assert caught.value.reason == "NOT_YET_FRESH"


@pytest.mark.parametrize("reason", ["FORCED", "forced", "Forced"])
def test_a_unit_with_a_forced_variant_is_in_no_number(log: Log, reason: str) -> None:
    log.add(
        "exposures",
        [
            exposure("u1", "a", reason="SPLIT"),
            exposure("u2", "b"),
            exposure("qa", "b", -30, reason=reason),
            exposure("qa", "a", 5, reason="SPLIT"),
            exposure("qa", "c", 6),
            exposure("qb", "c", reason=reason),
            exposure("qc", "a", experiment="another", reason=reason),
            exposure("qc", "a", reason="ENFORCED"),
        ],
    )
    log.add("conversions", [conversion(u, "visit", 9) for u in ("u1", "u2", "qa", "qb", "qc")])
    seen = log.ask(VISIT)
    assert seen.units == (2, 1)
    assert sums(seen, 0) == [2.0, 1.0]
    assert (seen.multiply_exposed_units, seen.unknown_variant_exposures) == (0, 0)
    assert seen.forced_units == 2


def test_a_unit_that_is_forced_now_is_left_out_whatever_its_exposures_say(log: Log) -> None:
    log.add(
        "exposures",
        [
            exposure("u1", "a", reason="TARGETING_MATCH"),
            exposure("u2", "b", reason="SPLIT"),
            exposure("u3", "b"),
            exposure("d1", "b") | {"unit_type": "device", "linked_units": [USER_3]},
        ],
    )
    assert log.ask(plan=replace(PLAN, forced=(("user", "u1"),))).units == (0, 2)
    seen = log.ask(plan=replace(PLAN, forced=(("user", "u1"), ("device", "d1"))))
    assert (seen.units, seen.forced_units) == ((0, 1), 2)
    assert log.ask(plan=replace(PLAN, forced=(("device", "u1"),))).forced_units == 0


def test_a_device_that_forces_a_variant_takes_its_user_out(log: Log) -> None:
    linked = {"unit_type": "device", "linked_units": [{"type": "user", "id": "u1"}]}
    log.add("exposures", [exposure("u1", "a"), exposure("d1", "b", 1, reason="FORCED") | linked])
    log.add("exposures", [exposure("u2", "b")])
    seen = log.ask(VISIT)
    assert (seen.units, seen.forced_units, seen.multiply_exposed_units) == ((0, 1), 1, 0)


units = st.lists(
    st.tuples(
        st.integers(0, 9),
        st.sampled_from("abc"),
        st.sampled_from([None, "SPLIT", "FORCED", "forced"]),
        st.integers(-60, 60),
    ),
    max_size=25,
)


@settings(max_examples=8, deadline=None)
@given(units, st.lists(st.tuples(st.integers(0, 9), st.integers(-60, 60)), max_size=25))
def test_forced_units_change_nothing_but_their_count(
    tmp_path_factory: pytest.TempPathFactory,
    exposed: list[tuple[int, str, str | None, int]],
    bought: list[tuple[int, int]],
) -> None:
    forced = {unit for unit, _, reason, _ in exposed if reason and reason.lower() == "forced"}

    def ask(left_out: set[int]) -> Observation:
        log = Log(tmp_path_factory.mktemp("lake") / "lake")
        rows = [
            exposure(f"u{unit}", variant, minutes, reason=reason)
            for unit, variant, reason, minutes in exposed
            if unit not in left_out
        ]
        log.add("exposures", rows)
        # The newest event says whose window is over, so it is the same with and without them.
        last = conversion("somebody", "visit", 120)
        log.add("conversions", [conversion(f"u{u}", "purchase", m, 1.25) for u, m in bought])
        log.add("conversions", [last])
        return log.ask(SPEND, SOON)

    everybody = ask(set())
    assert everybody.forced_units == len(forced)
    without = ask(forced)
    assert replace(everybody, forced_units=0, cut=without.cut) == without
