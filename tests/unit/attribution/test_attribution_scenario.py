"""The value of a scene's traffic: the worked example to the yuan, and what does not agree in it."""

import math

import numpy as np
import pytest
from hypothesis import given as hypothesis_given
from hypothesis import strategies as st

from services.attribution.domain.economics import Undefined
from services.attribution.domain.lift import Estimate
from services.attribution.domain.measured_sums import product_of
from services.attribution.domain.scenario import (
    Input,
    Product,
    Scenario,
    ScenarioValue,
    Source,
    evaluate,
    given,
    measured,
)
from services.attribution.domain.scenario_checks import Agreement, Quantity, Stated
from shared.errors import DomainError

BRAND = Product("brand slot", fixed=given(10_000))
FINANCE = Product(
    "consumer finance",
    visitors=given(2_000),
    share=given(0.3),
    convenience=given(1 / 3),
    value=given(21),
)
CARDS = Product(
    "card binding",
    visitors=given(2_000),
    share=given(0.1),
    convenience=given(0.1),
    value=given(18),
)
PAYMENT = Product(
    "quick payment",
    users=given(140),
    value=given(49.35),
    gross_value=given(187.6),
    promotion_cost=given(20_000),
)
PRINTED = (
    Stated(Quantity.TOTAL, 2.14, 2, 10_000),
    Stated(Quantity.DIRECT_AND_TOTAL, 5.79, 2, 10_000),
    Stated(Quantity.UPLIFT, 59, 0, 0.01),
    Stated(Quantity.DIRECT_PAYBACK_YEARS, 2, 0),
)


def worked_example() -> ScenarioValue:
    scenario = Scenario((BRAND, FINANCE, CARDS, PAYMENT), 60_000, 4, 36_400)
    return evaluate(scenario, PRINTED)


def test_the_worked_example_to_the_yuan() -> None:
    found = worked_example()

    assert [round(row.value.value, 6) for row in found.products] == [10_000, 4_200, 360, 6_909]
    assert [row.users and round(row.users.value, 6) for row in found.products] == [
        None,
        200,
        20,
        140,
    ]
    assert found.total.value == pytest.approx(21_469)
    assert isinstance(found.direct_and_total, Estimate)
    assert found.direct_and_total.value == pytest.approx(57_869)
    assert isinstance(found.uplift, Estimate)
    assert f"{found.uplift.value:.2%}" == "58.98%"
    assert found.total.std_err == 0


def test_the_worked_example_says_where_it_contradicts_itself() -> None:
    checks = {check.quantity: check for check in worked_example().checks}

    value = checks[Quantity.VALUE_PER_USER]
    assert value.given == 49.35
    assert value.derived == pytest.approx(44.74, abs=0.005)
    assert value.agreement is Agreement.INCONSISTENT
    assert value.message == (
        "value per user of quick payment: 49.35 is given and 44.74285714 derived"
    )
    payback = checks[Quantity.DIRECT_PAYBACK_YEARS]
    assert payback.given == 2
    assert payback.derived == pytest.approx(1.65, abs=0.005)
    assert payback.agreement is Agreement.COARSELY_ROUNDED
    assert checks[Quantity.TOTAL].agreement is Agreement.TRUNCATED
    assert checks[Quantity.DIRECT_AND_TOTAL].agreement is Agreement.ROUNDED
    assert checks[Quantity.UPLIFT].agreement is Agreement.ROUNDED
    assert [check.quantity for check in worked_example().inconsistencies] == [
        Quantity.VALUE_PER_USER,
        Quantity.TOTAL,
        Quantity.DIRECT_PAYBACK_YEARS,
    ]


def test_a_derived_value_is_used_where_none_is_given() -> None:
    derived = Product(
        "quick payment",
        users=given(140),
        gross_value=given(187.6),
        promotion_cost=given(20_000),
    )

    found = evaluate(Scenario((derived,)))

    assert found.products[0].value.value == pytest.approx(140 * 187.6 - 20_000)
    assert found.checks == ()


def test_a_share_measured_by_a_holdout_carries_its_error_to_the_total() -> None:
    share = measured(Estimate(0.3, 0.03), "experiments/promotion")
    product = Product(
        "finance", visitors=given(2000), share=share, convenience=given(0.5), value=given(20)
    )

    found = evaluate(Scenario((product, BRAND), direct_income=10_000))

    assert found.total.value == pytest.approx(16_000)
    assert found.total.std_err == pytest.approx(2000 * 0.03 * 0.5 * 20)
    assert isinstance(found.uplift, Estimate)
    assert found.uplift.std_err == pytest.approx(0.06)


def test_the_error_of_a_product_is_that_of_a_simulation() -> None:
    parts = (Estimate(0.3, 0.1), Estimate(50.0, 10.0), Estimate(-2.0, 0.5))
    random = np.random.default_rng(3)
    drawn = np.prod([random.normal(p.value, p.std_err, 400_000) for p in parts], axis=0)

    found = product_of(parts)

    assert found.value == pytest.approx(drawn.mean(), rel=0.01)
    assert found.std_err == pytest.approx(drawn.std(), rel=0.01)


SHARE = measured(Estimate(0.3, 0.1), "experiments/promotion")
OTHER = measured(Estimate(0.3, 0.1), "experiments/another")


def reached(name: str, share: Input, value: float, **more: Input) -> Product:
    """A product that 1,000 visitors are offered."""
    fields = {"visitors": given(1_000), "share": share, "convenience": given(0.5)}
    worth = more or {"value": given(value)}
    return Product(name, **fields, **worth)


def drawn_total(scenario: Scenario, draws: int = 400_000) -> tuple[float, float]:
    """Mean and spread of P where every experiment's figure is drawn once for all products."""
    random = np.random.default_rng(5)
    figures: dict[object, np.ndarray] = {}

    def draw(part: Input | None) -> np.ndarray:
        assert part is not None
        key = (part.origin, part.estimate)
        if part.source is Source.GIVEN or key not in figures:
            figures[key] = random.normal(part.value, part.estimate.std_err, draws)
        return figures[key]

    total = np.zeros(draws)
    for row in scenario.products:
        factors = [row.users] if row.users else [row.visitors, row.share, row.convenience]
        users = np.prod([draw(factor) for factor in factors], axis=0)
        if row.value:
            total += users * draw(row.value)
        else:
            total += users * draw(row.gross_value) - draw(row.promotion_cost)
    return float(total.mean()), float(total.std())


@pytest.mark.parametrize(
    "products",
    [
        (reached("a", SHARE, 20), reached("b", SHARE, 10)),
        (reached("a", SHARE, 20), reached("b", OTHER, 10)),
        (reached("a", SHARE, 20), reached("b", SHARE, -10), reached("c", OTHER, 5)),
        (
            reached(
                "a",
                SHARE,
                0,
                gross_value=measured(Estimate(40.0, 8.0), "experiments/promotion"),
                promotion_cost=measured(Estimate(3_000.0, 400.0), "the books"),
            ),
            reached("b", SHARE, 10),
        ),
    ],
)
def test_the_error_of_the_total_is_that_of_a_simulation(products: tuple[Product, ...]) -> None:
    """A figure that several products share is wrong in all of them at once."""
    scenario = Scenario(products)

    found = evaluate(scenario).total

    mean, spread = drawn_total(scenario)
    assert found.value == pytest.approx(mean, rel=0.01)
    assert found.std_err == pytest.approx(spread, rel=0.01)


def test_promotion_costs_the_same_however_many_users_come() -> None:
    """The cost by user is no reason for the value of all users to be more certain."""
    users = measured(Estimate(140.0, 20.0), "experiments/payment")
    product = Product(
        "payment", users=users, gross_value=given(187.6), promotion_cost=given(20_000)
    )

    (row,) = evaluate(Scenario((product,))).products

    assert row.value.value == pytest.approx(140 * 187.6 - 20_000)
    assert row.value.std_err == pytest.approx(20 * 187.6)
    assert row.value_per_user is not None
    assert row.value_per_user.std_err == pytest.approx(20_000 / 140**2 * 20)


@hypothesis_given(st.permutations(range(4)), st.floats(0.1, 50))
def test_the_order_of_products_and_the_unit_of_money_change_nothing(
    order: list[int], unit: float
) -> None:
    rows = [("a", SHARE, 20.0), ("b", OTHER, 10.0), ("c", SHARE, -7.0), ("d", SHARE, 1.5)]

    def total(names: list[int], scale: float) -> Estimate:
        products = (reached(rows[n][0], rows[n][1], rows[n][2] * scale) for n in names)
        return evaluate(Scenario(tuple(products))).total

    found, moved = total([0, 1, 2, 3], 1.0), total(order, unit)
    assert moved.value == pytest.approx(found.value * unit, rel=1e-12)
    assert moved.std_err == pytest.approx(found.std_err * unit, rel=1e-12)


def test_users_given_beside_their_factors_are_compared() -> None:
    both = Product(
        "finance",
        visitors=given(2000),
        share=given(0.3),
        convenience=given(0.5),
        users=given(310),
        value=given(1),
    )

    found = evaluate(Scenario((both,)))

    assert found.total.value == 310
    assert [(c.quantity, c.given, c.derived) for c in found.inconsistencies] == [
        (Quantity.USERS, 310, 300)
    ]


def test_what_is_not_given_is_said() -> None:
    found = evaluate(Scenario((BRAND,)), PRINTED)
    nothing = evaluate(Scenario((BRAND,), investment=1.0, direct_income=-20_000.0))

    assert found.uplift is Undefined.NOT_GIVEN
    assert found.payback_years is Undefined.NOT_GIVEN
    assert found.contract_return is Undefined.NOT_GIVEN
    # What is printed and cannot be derived is not passed over.
    assert [(check.quantity, check.agreement) for check in found.checks] == [
        (Quantity.TOTAL, Agreement.INCONSISTENT),
        (Quantity.DIRECT_AND_TOTAL, Agreement.NOT_DERIVED),
        (Quantity.UPLIFT, Agreement.NOT_DERIVED),
        (Quantity.DIRECT_PAYBACK_YEARS, Agreement.NOT_DERIVED),
    ]
    assert found.inconsistencies == found.checks
    assert found.checks[2].message == "uplift: 59 is given and nothing derived: not given"
    assert nothing.uplift is Undefined.ZERO_DENOMINATOR
    assert nothing.direct_payback_years is Undefined.NOT_PAID_BACK
    assert nothing.payback_years is Undefined.NOT_PAID_BACK


def test_payback_and_return_with_the_traffic() -> None:
    found = worked_example()

    assert found.direct_payback_years == pytest.approx(60_000 / 36_400)
    assert found.payback_years == pytest.approx(60_000 / 57_869)
    assert found.contract_return == pytest.approx(4 * 57_869 / 60_000)


@hypothesis_given(st.floats(0.001, 1e6), st.integers(0, 4))
def test_a_rounded_figure_agrees_and_another_does_not(value: float, decimals: int) -> None:
    scenario = Scenario((Product("a", fixed=given(value)),))
    step = 10.0**-decimals

    def agreement(printed: float) -> Agreement:
        return evaluate(scenario, [Stated(Quantity.TOTAL, printed, decimals)]).checks[0].agreement

    rounded = (Agreement.EXACT, Agreement.ROUNDED, Agreement.COARSELY_ROUNDED)
    assert agreement(round(value, decimals)) in rounded
    cut = math.floor(value / step) * step
    assert agreement(cut) is not Agreement.INCONSISTENT
    assert agreement(cut + 2 * step) is Agreement.INCONSISTENT


@pytest.mark.parametrize(
    "product",
    [
        lambda: Product("a", share=given(1.2)),
        lambda: Product("a", visitors=given(-1)),
        lambda: Product("a", fixed=given(1), users=given(1)),
        lambda: Product("a", fixed=given(1), share=given(0.1)),
        lambda: Product("a", fixed=given(1), gross_value=given(1), promotion_cost=given(1)),
        lambda: Product("a", visitors=given(1), value=given(1)),
        lambda: Product("a", users=given(3), share=given(0.1), value=given(1)),
        lambda: Product("a", users=given(3), value=given(1), gross_value=given(1)),
        lambda: Product("a", share=measured(Estimate(30, 3), "experiments/a")),
        lambda: evaluate(Scenario((Product("a", value=given(1)),))),
        lambda: evaluate(Scenario((Product("a", users=given(1)),))),
        lambda: Scenario(()),
        lambda: Scenario((BRAND, BRAND)),
        lambda: Scenario((BRAND,), investment=0),
        lambda: measured(Estimate(1, 1), ""),
        lambda: Stated(Quantity.USERS, 1, 0),
    ],
)
def test_what_cannot_be_is_refused(product: object) -> None:
    assert callable(product)
    with pytest.raises(DomainError):
        product()


def test_an_input_says_where_it_comes_from() -> None:
    assert given(1, "contract").source is Source.GIVEN
    assert measured(Estimate(1, 1), "experiments/a").origin == "experiments/a"
