"""Token buckets, over a clock that the test moves."""

import pytest
from pydantic import ValidationError

from services.events.domain.rate import BURST_S, ProjectRates, Rate, Spread
from services.events.settings import Settings, parse_rates

RATE = Rate(events_per_s=100, bytes_per_s=10_000)


def rates(tracked: int = 10, **special: Rate) -> ProjectRates:
    return ProjectRates(RATE, special, tracked)


def test_a_burst_passes_and_what_is_beyond_waits_for_its_share() -> None:
    buckets = rates()
    assert buckets.take("acme", int(100 * BURST_S), 1, 0.0) == 0
    assert buckets.take("acme", 50, 1, 0.0) == pytest.approx(0.5)
    assert buckets.take("acme", 50, 1, 0.4) == pytest.approx(0.1)
    assert buckets.take("acme", 50, 1, 0.5) == 0


def test_the_scarcer_of_events_and_bytes_decides() -> None:
    buckets = rates()
    assert buckets.take("acme", 1, 20_000, 0.0) == 0
    assert buckets.take("acme", 1, 5_000, 0.0) == pytest.approx(0.5)


def test_what_is_refused_takes_nothing() -> None:
    buckets = rates()
    assert buckets.take("acme", 150, 20_000, 0.0) == 0
    for _ in range(10):
        assert buckets.take("acme", 50, 10_000, 0.0) > 0
    assert buckets.take("acme", 50, 0, 0.0) == 0


def test_the_delay_told_is_enough() -> None:
    buckets, now = rates(), 0.0
    for _ in range(100):
        now += buckets.take("acme", 37, 4_321, now) + 1e-9
        assert buckets.take("acme", 37, 4_321, now + 0.5) == 0


def test_over_a_long_time_no_more_than_the_rate_passes() -> None:
    buckets = rates()
    passed = sum(7 for tick in range(10_000) if not buckets.take("acme", 7, 1, tick / 100))
    assert passed == pytest.approx(100 * 100 + 100 * BURST_S, rel=0.01)


def test_a_batch_above_the_burst_passes_when_the_bucket_is_full_and_is_paid_for_later() -> None:
    buckets = rates()
    assert buckets.take("acme", 1_000, 1, 0.0) == 0
    assert buckets.take("acme", 1, 1, 0.0) == pytest.approx(8.01)
    assert buckets.take("acme", 1_000, 1, 9.0) == pytest.approx(1.0)


def test_a_project_takes_nothing_from_another() -> None:
    buckets = rates()
    assert buckets.take("flood", 1_000_000, 1, 0.0) == 0
    assert buckets.take("flood", 1, 1, 0.0) > 0
    assert buckets.take("acme", 200, 1, 0.0) == 0


def test_a_project_may_have_a_rate_of_its_own() -> None:
    buckets = rates(big=Rate(1_000, 10**9))
    assert buckets.take("big", 2_000, 1, 0.0) == 0
    assert buckets.take("big", 100, 1, 0.0) == pytest.approx(0.1)


def test_a_clock_that_stands_still_refills_nothing() -> None:
    buckets = rates()
    buckets.take("acme", 200, 1, 5.0)
    assert buckets.take("acme", 1, 1, 5.0) > 0
    assert buckets.take("acme", 1, 1, 4.0) > 0


def test_the_number_of_projects_remembered_is_bounded() -> None:
    buckets = rates(tracked=3)
    for number in range(1_000):
        buckets.take(f"p{number}", 1, 1, 0.0)
    assert len(buckets) == 3


def test_who_sends_is_not_forgotten_for_who_does_not() -> None:
    buckets = rates(tracked=2)
    buckets.take("flood", 200, 1, 0.0)
    for number in range(10):
        buckets.take(f"p{number}", 1, 1, 0.0)
        assert buckets.take("flood", 100, 1, 0.0) > 0


def test_a_partition_costs_once_in_a_while_and_a_debt_is_paid_with_time() -> None:
    buckets = ProjectRates(RATE, {}, 10, Spread(per_s=10, burst=20, free_s=5))
    days = [("conversions", day) for day in range(50)]
    assert buckets.charge("flood", days, 0.0) == 0
    assert buckets.debt_s("flood", 0.0) == pytest.approx(3.0)
    assert buckets.charge("flood", days, 1.0) == 0, "they share a commit"
    assert buckets.debt_s("flood", 1.0) == pytest.approx(2.0)
    assert buckets.charge("flood", [("exposures", 1)], 1.0) == pytest.approx(2.0)
    assert buckets.charge("acme", days[:20], 1.0) == buckets.debt_s("acme", 1.0) == 0
    assert buckets.charge("flood", days, 5.0) == 0
    assert buckets.debt_s("flood", 5.0) == pytest.approx(3.0)


def test_single_events_on_other_days_pay_as_a_batch_does() -> None:
    buckets = ProjectRates(RATE, {}, 10, Spread(per_s=10, burst=20, free_s=5))
    paid = sum(
        buckets.charge("flood", [("conversions", tick)], tick / 1000) == 0 for tick in range(60_000)
    )
    assert paid == pytest.approx(10 * 60 + 20, rel=0.01)


def test_rates_of_projects_are_read_from_the_settings() -> None:
    assert parse_rates(" acme=5000:1048576, rival=1:2 ,") == {
        "acme": (5000.0, 1048576.0),
        "rival": (1.0, 2.0),
    }
    assert parse_rates("") == {}


@pytest.mark.parametrize("text", ["acme", "acme=1", "acme=0:5", "acme=-1:5", "Acme=1:1", "a=1:1:1"])
def test_a_rate_that_is_none_is_named(text: str) -> None:
    with pytest.raises(ValidationError, match="is no rate; allowed: PROJECT=EVENTS:BYTES"):
        Settings(project_rates=text)
