"""BG/NBD and Gamma-Gamma against published figures, quadrature and simulation."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from scipy import integrate, special

from services.attribution.domain.economics import Undefined
from services.attribution.domain.purchases import (
    BuyingHistory,
    PurchaseModel,
    expected_purchases,
    fit_purchases,
    log_likelihood,
    probability_active,
)
from services.attribution.domain.spending import SpendingModel, expected_spend, fit_spending
from shared.errors import DomainError

PUBLISHED = np.array([0.243, 4.414, 0.793, 2.426])


# Fader and Hardie (2013), section 4: p, q and gamma of 946 customers of CDNOW.
PUBLISHED_SPENDING = (6.25, 3.74, 15.44)


@cache
def shop(units: int = 20_000) -> np.ndarray:
    """Customers of a shop with the published parameters of CDNOW, who first bought in the first 12
    of 39 weeks: repeat purchases, weeks to the last, weeks to the end, mean spend.
    """
    random = np.random.default_rng(1997)
    r, alpha, a, b = PUBLISHED
    age = random.uniform(27.0, 39.0, units)
    rates = random.gamma(r, 1 / alpha, units)
    times = np.cumsum(random.exponential(1.0, (units, 120)) / rates[:, None], axis=1)
    left = random.geometric(random.beta(a, b, units))
    made = (times <= age[:, None]) & (np.arange(120)[None, :] < left[:, None])
    repeats = made.sum(axis=1).astype(np.float64)
    last = np.where(made, times, 0.0).max(axis=1)
    p, q, scale = PUBLISHED_SPENDING
    levels = random.gamma(q, 1 / scale, units)
    spend = random.gamma(np.maximum(p * repeats, 1.0), 1 / (np.maximum(repeats, 1.0) * levels))
    return np.stack([repeats, last, age, np.where(repeats > 0, spend, 0.0)])


def history_of(*rows: tuple[float, float, float]) -> BuyingHistory:
    return BuyingHistory(*np.array(rows).T)


def test_published_parameters_are_found_again() -> None:
    x, last, age, _ = shop()

    model = fit_purchases(BuyingHistory(x, last, age))

    assert isinstance(model, PurchaseModel)
    assert model.parameters[:2] == pytest.approx(PUBLISHED[:2], rel=0.05)
    assert model.parameters[2:] == pytest.approx(PUBLISHED[2:], rel=0.25)
    assert model.log_likelihood >= log_likelihood(PUBLISHED, x, last, age)[0].sum()
    assert model.steepness < 1e-6
    assert not model.at_edge


def test_the_published_expectation_of_one_customer() -> None:
    # Fader and Hardie, implementing the BG/NBD in Excel: x 2, t_x 30.43, T 38.86, t 39.
    customer = history_of((2, 30.43, 38.86))

    assert expected_purchases(PUBLISHED, customer, 39.0)[0] == pytest.approx(1.226, abs=5e-4)


def test_published_spending_is_found_again() -> None:
    x, _, _, spend = shop()

    model = fit_spending(x, spend)

    assert isinstance(model, SpendingModel)
    assert model.units == np.count_nonzero(x)
    assert model.parameters[:2] == pytest.approx(PUBLISHED_SPENDING[:2], rel=0.1)
    p, q, scale = PUBLISHED_SPENDING
    assert model.population_mean == pytest.approx(p * scale / (q - 1), rel=0.03)
    # What units spend has nothing to do with how often they buy: the model needs that.
    assert model.correlation == pytest.approx(0.0, abs=0.03)


def test_expectations_equal_the_integral_over_what_may_be_true() -> None:
    r, alpha, a, b = PUBLISHED
    for x, last, age in [(0.0, 0.0, 30.0), (2.0, 30.43, 38.86), (40.0, 35.0, 38.0)]:
        # While active, rates are gamma(r + x, alpha + T) and stopping is beta(a, b + x).
        def of_stopping(p: float, x: float = x, age: float = age) -> float:
            p = max(p, 1e-300)
            left = -np.expm1((r + x) * np.log((alpha + age) / (alpha + age + 20.0 * p))) / p
            return float(left * (1 - p) ** (b + x - 1) / special.beta(a, b + x))

        active, _ = integrate.quad(of_stopping, 0, 1, weight="alg", wvar=(a - 1, 0))
        customer = history_of((x, last, age))
        found = expected_purchases(PUBLISHED, customer, 20.0)[0]

        assert found == pytest.approx(active * probability_active(PUBLISHED, customer)[0], rel=1e-6)


def test_expectations_are_finite_where_the_formula_is_not() -> None:
    busy = history_of((800.0, 300.0, 301.0))
    sides = [
        expected_purchases(np.array([0.3, 4.0, a, 2.0]), busy, 30.0)[0]
        for a in (0.9999, 1.0, 1.0001)
    ]

    assert 0 < sides[0] < 100
    assert sides[1] == pytest.approx((sides[0] + sides[2]) / 2, rel=1e-6)


def test_the_slopes_of_the_likelihood_are_its_differences() -> None:
    x, last, age = np.array([0.0, 3.0, 9.0]), np.array([0.0, 5.0, 8.0]), np.array([9.0, 9.0, 8.5])
    _, slopes = log_likelihood(PUBLISHED, x, last, age)
    for position in range(4):
        step = np.eye(4)[position] * 1e-6
        above, _ = log_likelihood(PUBLISHED + step, x, last, age)
        below, _ = log_likelihood(PUBLISHED - step, x, last, age)
        assert slopes[position] == pytest.approx((above - below) / 2e-6, rel=1e-4, abs=1e-7)


def test_a_unit_without_a_repeat_is_active_and_a_silent_one_hardly() -> None:
    units = history_of((0, 0, 40), (12, 10, 40), (12, 39, 40))

    active = probability_active(PUBLISHED, units)

    assert active[0] == 1
    assert active[1] < 0.01
    assert active[2] > 0.8


def simulated(seed: int, units: int = 8000) -> tuple[BuyingHistory, np.ndarray]:
    """Units of a population with known parameters, and their purchases in the 30 days after 90."""
    random = np.random.default_rng(seed)
    rates = random.gamma(0.8, 1 / 10.0, units)
    stops = random.beta(1.2, 3.0, units)
    gaps = random.exponential(1.0, (units, 200)) / rates[:, None]
    times = np.cumsum(gaps, axis=1)
    # The purchase at which a unit stops is still made.
    alive = np.arange(200)[None, :] <= (random.geometric(stops) - 1)[:, None]
    before, after = alive & (times <= 90), alive & (times > 90) & (times <= 120)
    repeats = before.sum(axis=1).astype(np.float64)
    last = np.where(before, times, 0).max(axis=1)
    return BuyingHistory(repeats, last, np.full(units, 90.0)), after.sum(axis=1)


def test_known_parameters_and_what_follows_are_found_again() -> None:
    history, future = simulated(11)
    model = fit_purchases(history)
    assert isinstance(model, PurchaseModel)

    expected = expected_purchases(model.parameters, history, 30.0)

    assert model.parameters == pytest.approx([0.8, 10.0, 1.2, 3.0], rel=0.35)
    assert expected.sum() == pytest.approx(future.sum(), rel=0.06)
    # And by how often they bought: the model must not only be right on the whole.
    for low, high in [(0, 0), (1, 2), (3, 6), (7, 200)]:
        group = (history.repeats >= low) & (history.repeats <= high)
        assert expected[group].sum() == pytest.approx(future[group].sum(), rel=0.2)


def test_the_order_of_units_and_the_unit_of_time_change_nothing() -> None:
    x, last, age, spend = shop()[:, ::4]
    order = np.random.default_rng(1).permutation(len(x))
    weeks = fit_purchases(BuyingHistory(x, last, age))

    assert fit_purchases(BuyingHistory(x[order], last[order], age[order])) == weeks
    assert fit_spending(x[order], spend[order]) == fit_spending(x, spend)
    days = fit_purchases(BuyingHistory(x, last * 7, age * 7))
    assert isinstance(days, PurchaseModel)
    assert isinstance(weeks, PurchaseModel)
    assert days.rate_scale == pytest.approx(7 * weeks.rate_scale, rel=1e-4)
    assert days.stop_a == pytest.approx(weeks.stop_a, rel=1e-4)


def test_spending_lies_between_the_unit_and_the_population() -> None:
    x, _, _, spend = shop()
    model = fit_spending(x, spend)
    assert isinstance(model, SpendingModel)
    assert isinstance(model.population_mean, float)

    found = expected_spend(model, np.array([0.0, 1.0, 100.0]), np.array([0.0, 80.0, 80.0]))

    assert found[0] == pytest.approx(model.population_mean)
    assert found[0] < found[1] < found[2] < 80
    assert found[2] > 79


def test_a_population_without_a_mean_is_said() -> None:
    random = np.random.default_rng(5)
    means = 1.0 / random.gamma(0.7, 1.0, 3000)
    model = fit_spending(np.full(3000, 4.0), random.gamma(20.0, means / 20.0))

    assert isinstance(model, SpendingModel)
    assert model.population_mean is Undefined.NOT_IDENTIFIED
    assert np.isnan(expected_spend(model, np.zeros(1), np.zeros(1))).all()


def test_too_few_repeats_identify_nothing() -> None:
    once = BuyingHistory(np.zeros(500), np.zeros(500), np.full(500, 9.0))

    assert fit_purchases(once) is Undefined.NOT_IDENTIFIED
    assert fit_spending(np.ones(29), np.ones(29)) is Undefined.NOT_IDENTIFIED


def test_units_that_never_stop_are_said_to_be_at_the_edge() -> None:
    random = np.random.default_rng(2)
    rates = random.gamma(2.0, 0.2, 2000)
    times = np.cumsum(random.exponential(1.0, (2000, 200)) / rates[:, None], axis=1)
    seen = times <= 50
    history = BuyingHistory(
        seen.sum(axis=1).astype(float), np.where(seen, times, 0).max(axis=1), np.full(2000, 50.0)
    )

    model = fit_purchases(history)

    assert isinstance(model, PurchaseModel)
    assert model.at_edge
    expected = expected_purchases(model.parameters, history, 50.0)
    assert expected.sum() == pytest.approx(history.repeats.sum(), rel=0.03)


@pytest.mark.parametrize("row", [(1, 5, 4), (0, 1, 4), (-1, 0, 4), (1, 1, np.inf)])
def test_a_history_that_cannot_be_is_refused(row: tuple[float, float, float]) -> None:
    with pytest.raises(DomainError, match="history"):
        history_of(row)
    with pytest.raises(DomainError, match="horizon"):
        expected_purchases(PUBLISHED, history_of((0, 0, 1)), -1.0)
    assert replace(history_of((0, 0, 1)), age=np.array([2.0])).age.tolist() == [2.0]


def integrated(parameters: np.ndarray, repeats: float, age: float, horizon: float) -> float:
    """Equation 10 as the mean over the chance to stop, by quadrature over its quantiles."""
    r, alpha, a, b = parameters.tolist()
    nodes, weights = np.polynomial.legendre.leggauss(400)
    stop = special.betaincinv(a, b + repeats, (nodes + 1) / 2)
    bought = -np.expm1(-(r + repeats) * np.log1p(stop * horizon / (alpha + age))) / stop
    return float(weights @ bought / 2)


@pytest.mark.parametrize("repeats", [0.0, 1.0, 5.0, 30.0, 80.0, 300.0])
@pytest.mark.parametrize(("age", "horizon"), [(180.0, 365.0), (30.0, 3660.0)])
@pytest.mark.parametrize("parameters", [(1.534, 60.6, 693.35, 8103.1), (1.5, 60.0, 50.0, 600.0)])
def test_parameters_at_the_edge_give_numbers(
    parameters: tuple[float, ...], repeats: float, age: float, horizon: float
) -> None:
    known = np.array(parameters)
    # The last purchase was now, so that the unit is as good as certain not to have stopped.
    history = BuyingHistory(
        np.array([repeats]), np.array([age if repeats else 0.0]), np.array([age])
    )
    active = probability_active(known, history)[0]

    (found,) = expected_purchases(known, history, horizon).tolist()

    assert found == pytest.approx(active * integrated(known, repeats, age, horizon), rel=1e-5)
