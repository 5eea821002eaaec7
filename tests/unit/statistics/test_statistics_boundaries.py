"""Group-sequential boundaries against published tables, scipy and their own promises."""

import json
import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from touchstone_statistics.boundaries import Futility, Ledger, Plan, advance, arrivals
from touchstone_statistics.crossing import bound_above, start, step
from touchstone_statistics.interval import Side
from touchstone_statistics.spending import (
    HwangShihDeCani,
    OBrienFleming,
    Pocock,
    Power,
    Spending,
)

SPENDINGS = [OBrienFleming(), Pocock(), Power(2.0), HwangShihDeCani(-4.0), HwangShihDeCani(0.0)]


def ledger_of(plan: Plan, looks: list[float]) -> Ledger:
    ledger = Ledger()
    for information in looks:
        ledger = advance(plan, ledger, information)
    return ledger


def criticals(plan: Plan, looks: list[float]) -> list[float | None]:
    return [look.critical for look in ledger_of(plan, looks).looks]


def crossing(bounds: list[float]) -> float:
    """Chance to cross +-bounds (on the z scale) at equally spaced looks."""
    times = np.arange(1, len(bounds) + 1) / len(bounds)
    paths, crossed = start(), 0.0
    for look, (time, bound) in enumerate(zip(times, bounds, strict=True)):
        edge = bound * math.sqrt(time)
        crossed += 2 * float(paths.above(time, edge))
        following = times[min(look + 1, len(times) - 1)]
        sharpness = math.sqrt(max(following - time, 1 / len(bounds)))
        paths = step(paths, time, -edge, edge, sharpness)
    return crossed


@pytest.mark.parametrize(
    ("looks", "pocock", "obrien_fleming"),
    [
        (2, 2.178, 1.977),
        (3, 2.289, 2.004),
        (4, 2.361, 2.024),
        (5, 2.413, 2.040),
        (10, 2.555, 2.087),
    ],
)
def test_constants_of_jennison_and_turnbull(
    looks: int, pocock: float, obrien_fleming: float
) -> None:
    # Jennison and Turnbull (2000), tables 2.1 and 2.3: alpha 0.05, three decimals.
    level = crossing([pocock] * looks)
    assert level == pytest.approx(0.05, abs=0.0001)
    level = crossing([obrien_fleming * math.sqrt(looks / look) for look in range(1, looks + 1)])
    assert level == pytest.approx(0.05, abs=0.0001)


@pytest.mark.parametrize(
    ("spending", "published"),
    [
        (OBrienFleming(), [4.877, 3.357, 2.680, 2.290, 2.031]),
        (Pocock(), [2.438, 2.427, 2.410, 2.397, 2.386]),
    ],
)
def test_boundaries_of_lan_and_demets(spending: Spending, published: list[float]) -> None:
    # The five-look boundaries of both functions of Lan and DeMets (1983), alpha 0.05 two-sided,
    # as tabulated by Reboussin, DeMets, Kim and Lan (2000) for their program.
    plan = Plan(5.0, spending=spending)
    assert criticals(plan, [1, 2, 3, 4, 5]) == pytest.approx(published, abs=0.0006)


def test_the_published_example_of_gsdesign() -> None:
    # Anderson's gsDesign, its default: three looks, HSD(-4) at 0.025 one-sided, futility HSD(-2)
    # at 90 % power, not binding: 3.01, 2.55, 2.00 and -0.24, 0.94, 2.00, sample ratio 1.07.
    drift = 3.2415 * math.sqrt(1.0699)
    futility = Futility(drift, 0.1, HwangShihDeCani(-2.0))
    plan = Plan(3.0, 0.025, Side.GREATER, HwangShihDeCani(-4.0), futility)
    ledger = ledger_of(plan, [1, 2, 3])
    assert [look.critical for look in ledger.looks] == pytest.approx(
        [3.0107, 2.5465, 1.9992], abs=1e-4
    )
    assert [look.futility for look in ledger.looks] == pytest.approx(
        [-0.2387, 0.9411, 1.9992], abs=2e-4
    )


@pytest.mark.parametrize("spending", SPENDINGS)
@pytest.mark.parametrize("side", [Side.TWO_SIDED, Side.GREATER])
def test_unequal_looks_match_the_multivariate_normal_of_scipy(
    spending: Spending, side: Side
) -> None:
    looks = [0.2, 0.55, 0.7, 1.0]
    plan = Plan(1.0, 0.05, side, spending)
    ledger = ledger_of(plan, looks)
    times = np.array(looks)
    covariance = np.sqrt(np.minimum.outer(times, times) / np.maximum.outer(times, times))
    upper = np.array([look.critical for look in ledger.looks], dtype=float)
    lower = -upper if side is Side.TWO_SIDED else np.full(4, -np.inf)
    for count in (2, 3, 4):
        inside = stats.multivariate_normal.cdf(
            upper[:count],
            np.zeros(count),
            covariance[:count, :count],
            lower_limit=lower[:count],
            abseps=1e-7,
            maxpts=200_000,
            rng=np.random.default_rng(1),
        )
        assert 1 - inside == pytest.approx(ledger.looks[count - 1].spent, abs=3e-6)


def test_six_digits_do_not_depend_on_the_grid() -> None:
    plan = Plan(28.0)
    coarse = ledger_of(plan, list(np.arange(1.0, 28.0)))
    paths = arrivals(plan, coarse, 1.0)[-1]
    # The same paths through a needlessly sharp last step, which makes every panel ten times finer.
    fine = start()
    times = [look.information / 28 for look in coarse.looks]
    for look, time in zip(coarse.looks, times, strict=True):
        assert look.critical is not None
        edge = look.critical * math.sqrt(time)
        fine = step(fine, time, -edge, edge, math.sqrt(1 / 28) / 4)
    chance = (0.05 - coarse.looks[-1].spent) / 2
    assert bound_above(paths, 1.0, chance) == pytest.approx(
        bound_above(fine, 1.0, chance), abs=1e-7
    )


@pytest.mark.parametrize("spending", SPENDINGS)
def test_everything_is_spent_at_the_end_and_nothing_before_the_start(spending: Spending) -> None:
    assert spending.spent(0.025, 0.0) == 0.0
    assert spending.spent(0.025, 1.0) == pytest.approx(0.025, rel=1e-12)
    shares = [spending.spent(0.025, t) for t in np.linspace(0.0, 1.0, 50)]
    assert all(later > earlier for earlier, later in pairwise(shares))


def test_a_single_look_at_the_end_is_the_fixed_test() -> None:
    assert criticals(Plan(1000.0), [1000.0]) == pytest.approx([1.9599639845400545], abs=1e-12)
    assert criticals(Plan(1000.0, 0.05, Side.LESS), [1200.0]) == pytest.approx([1.6448536269514722])


def test_a_look_needs_new_information() -> None:
    plan = Plan(1000.0)
    ledger = ledger_of(plan, [300.0])
    assert advance(plan, ledger, 300.0) is ledger
    assert advance(plan, ledger, 290.0) is ledger
    assert advance(plan, ledger, 309.9) is ledger
    assert len(advance(plan, ledger, 310.0).looks) == 2


def test_the_end_is_a_look_even_just_after_another_and_then_all_is_frozen() -> None:
    plan = Plan(1000.0)
    ledger = ledger_of(plan, [500.0, 995.0])
    assert not ledger.complete
    ended = advance(plan, ledger, 1000.0)
    assert ended.complete
    assert ended.looks[-1].spent == pytest.approx(0.05, rel=1e-12)
    assert advance(plan, ended, 5000.0) is ended


def test_running_over_the_end_counts_the_units_there_were() -> None:
    plan = Plan(1000.0)
    late = ledger_of(plan, [500.0, 1500.0])
    assert late.looks[-1].fraction == 1.0
    # The last two statistics are less alike than at 1,000 units, so the bound is higher.
    on_time = ledger_of(plan, [500.0, 1000.0])
    assert late.looks[-1].critical is not None
    assert on_time.looks[-1].critical is not None
    assert late.looks[-1].critical > on_time.looks[-1].critical


def test_a_plan_moved_out_spends_nothing_until_it_is_due() -> None:
    ledger = ledger_of(Plan(1000.0), [800.0])
    longer = Plan(4000.0)
    ledger = advance(longer, ledger, 1000.0)
    assert ledger.looks[-1].critical is None
    assert ledger.looks[-1].spent == ledger.looks[0].spent
    ended = advance(longer, ledger, 4000.0)
    assert ended.looks[-1].spent == pytest.approx(0.05, rel=1e-12)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.floats(0.02, 1.3), min_size=1, max_size=6),
    st.sampled_from(SPENDINGS),
    st.sampled_from(list(Side)),
    st.sampled_from([None, Futility(2.8), Futility(0.2, 0.2, Pocock()), Futility(9.0, 0.9)]),
)
def test_looks_are_added_and_never_rewritten(
    looks: list[float], spending: Spending, side: Side, futility: Futility | None
) -> None:
    plan = Plan(1.0, 0.05, side, spending, futility)
    ledger = Ledger()
    for information in looks:
        longer = advance(plan, ledger, information)
        assert longer.looks[: len(ledger.looks)] == ledger.looks
        assert len(longer.looks) - len(ledger.looks) in (0, 1)
        ledger = longer
    assert Ledger.from_json(json.loads(json.dumps(ledger.to_json()))) == ledger
    spent = [look.spent for look in ledger.looks]
    for look in ledger.looks:
        assert look.critical is None or math.isfinite(look.critical)
        assert look.futility is None or math.isfinite(look.futility)
    assert spent == sorted(spent)
    assert spent[-1] <= 0.05 * (1 + 1e-12)


def test_the_first_hour_of_a_long_test_cannot_reject() -> None:
    ledger = ledger_of(Plan(1e9), [1e7, 2e7])
    assert ledger.looks[0].critical is None
    assert ledger.looks[1].critical is not None
    assert ledger.looks[1].critical > 15


def test_futility_meets_the_boundary_when_the_planned_effect_is_soon_ruled_out() -> None:
    futility = Futility(0.2, 0.99, Power(0.2))
    ledger = ledger_of(Plan(1.0, futility=futility, spending=Pocock()), [0.5, 0.8, 0.9, 0.95])
    assert ledger.looks[-1].futility == ledger.looks[-1].critical


def test_a_last_look_just_after_another_has_a_bound() -> None:
    # The paths left stand far below where a path that nothing stopped would have to stand.
    ledger = ledger_of(Plan(1.0, 0.3, spending=Pocock()), [0.7458, 0.9999, 50.0])
    assert ledger.looks[-1].critical == pytest.approx(4.171, abs=0.001)


def test_futility_leaves_the_level_alone_and_meets_the_boundary_at_the_end() -> None:
    looks = [0.25, 0.5, 0.75, 1.0]
    plain = ledger_of(Plan(1.0), looks)
    both = ledger_of(Plan(1.0, futility=Futility(2.9)), looks)
    assert [look.critical for look in both.looks] == [look.critical for look in plain.looks]
    assert both.looks[-1].futility == both.looks[-1].critical
    lows = [look.futility for look in both.looks if look.futility is not None]
    assert lows == sorted(lows)
    assert all(low >= 0 for low in lows)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Plan(0.0), "planned_information is 0.0"),
        (lambda: Plan(math.inf), "planned_information is inf"),
        (lambda: Plan(10.0, 0.7), "alpha is 0.7; it must be above 0 and at most 0.5"),
        (lambda: Power(-1.0), "exponent is -1.0"),
        (lambda: HwangShihDeCani(99.0), "shape is 99.0; it must be from -40 to 40"),
        (lambda: Futility(-1.0), "drift is -1.0"),
        (lambda: Futility(3.0, 1.0), "error is 1.0"),
        (lambda: advance(Plan(10.0), Ledger(), math.nan), "information is nan"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(make: object, words: str) -> None:
    assert callable(make)
    with pytest.raises(ValueError, match=words):
        make()
