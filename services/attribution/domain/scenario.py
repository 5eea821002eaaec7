"""What the traffic of a scene is worth: P = sum over products of F * S * G * V.

F are visitors in a year, S the share of them that promotion reaches and that would not have come
without it, G the share of those who obtain the product (convenience), V the value of one of these
users after the cost of promotion. Every input is given or measured; what can be derived stands
beside what was given, and both are shown where they disagree.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum

from services.attribution.domain.economics import Undefined
from services.attribution.domain.lift import Estimate
from services.attribution.domain.measured_sums import Factor, Term, product_of, sum_of
from services.attribution.domain.scenario_checks import (
    Agreement,
    Check,
    Quantity,
    Stated,
    beside_derived,
    compared,
)
from shared.errors import invalid


class Source(Enum):
    """Where a figure comes from."""

    GIVEN = "given"
    MEASURED = "measured"
    DERIVED = "derived"


@dataclass(frozen=True, slots=True)
class Input:
    """A figure, its standard error (0 for one that was given), and its source.

    `origin` names the experiment of a measured figure, or the document of a given one.
    """

    estimate: Estimate
    source: Source = Source.GIVEN
    origin: str = ""

    def __post_init__(self) -> None:
        if self.source is Source.GIVEN and self.estimate.std_err:
            raise invalid("input.std_err", self.estimate.std_err, "0 for a figure that was given")
        if self.source is Source.MEASURED and not self.origin:
            raise invalid("input.origin", self.origin, "the experiment of a measured figure")

    @property
    def value(self) -> float:
        return self.estimate.value

    def factor(self) -> Factor:
        """The input in a product: the same number of the same experiment is the same figure."""
        return Factor(self.estimate, (self.origin, self.estimate.value, self.estimate.std_err))


def given(value: float, origin: str = "") -> Input:
    """Return a figure that somebody states."""
    return Input(Estimate(value, 0.0), Source.GIVEN, origin)


def measured(estimate: Estimate, experiment: str) -> Input:
    """Return a figure that an experiment measured."""
    return Input(estimate, Source.MEASURED, experiment)


@dataclass(frozen=True, slots=True)
class Product:
    """One row: fixed value, or users times value; users may be visitors * share * convenience.

    `gross_value` and `promotion_cost` (of all its users in a year) derive the value of a user. A
    figure that is given beside one that can be derived is used, and the two are compared.
    """

    name: str
    visitors: Input | None = None
    share: Input | None = None
    convenience: Input | None = None
    users: Input | None = None
    value: Input | None = None
    fixed: Input | None = None
    gross_value: Input | None = None
    promotion_cost: Input | None = None

    def __post_init__(self) -> None:
        if self.fixed is not None and self._given(*_PARTS):
            raise invalid(f"products.{self.name}", "fixed beside others", "a fixed value alone")
        for together in (("visitors", "share", "convenience"), ("gross_value", "promotion_cost")):
            known = self._given(*together)
            if known and len(known) < len(together):
                # A figure that changes nothing would look as if it did.
                allowed = f"all of {', '.join(together)}, or none of them"
                raise invalid(f"products.{self.name}", f"{', '.join(known)} alone", allowed)
        for name, part in self._given("share", "convenience").items():
            # A measured share may be below zero by chance: it is shown as it was measured.
            least = 0 if part.source is Source.GIVEN else -1
            if not least <= part.value <= 1:
                allowed = f"a share from {least} to 1"
                raise invalid(f"products.{self.name}.{name}", part.value, allowed)
        for name, part in self._given("visitors", "users").items():
            if part.source is Source.GIVEN and part.value < 0:
                raise invalid(f"products.{self.name}.{name}", part.value, "at least 0")

    def _given(self, *names: str) -> dict[str, Input]:
        """Those of these parts that are there."""
        found = {name: getattr(self, name) for name in names}
        return {name: part for name, part in found.items() if part is not None}


_PARTS = (
    "visitors",
    "share",
    "convenience",
    "users",
    "value",
    "gross_value",
    "promotion_cost",
)
"""All but a fixed value."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """A scene: what it costs, how long the contract runs, what it earns directly a year."""

    products: tuple[Product, ...]
    investment: float | None = None
    contract_years: float | None = None
    direct_income: float | None = None

    def __post_init__(self) -> None:
        names = [product.name for product in self.products]
        if not names or len(set(names)) < len(names):
            raise invalid("products", names, "at least one, each name once")
        for name in ("investment", "contract_years"):
            amount = getattr(self, name)
            if amount is not None and not (math.isfinite(amount) and amount > 0):
                raise invalid(name, amount, "a finite number above 0")


@dataclass(frozen=True, slots=True)
class ProductValue:
    """One row of the answer; `users` is None for a fixed value."""

    name: str
    users: Estimate | None
    value_per_user: Estimate | None
    value: Estimate


@dataclass(frozen=True, slots=True)
class ScenarioValue:
    """The value of a scene in a year and what it means for the investment.

    `uplift` is the total over the direct income. Payback is in years: by the direct income alone,
    and with the total. `contract_return` is income over the contract for one unit invested.
    """

    products: tuple[ProductValue, ...]
    total: Estimate
    direct_and_total: Estimate | Undefined
    uplift: Estimate | Undefined
    direct_payback_years: float | Undefined
    payback_years: float | Undefined
    contract_return: float | Undefined
    checks: tuple[Check, ...]

    @property
    def inconsistencies(self) -> tuple[Check, ...]:
        """The checks whose figures a reader should not take for the same."""
        agreed = (Agreement.EXACT, Agreement.ROUNDED, Agreement.WITHIN_INTERVAL)
        return tuple(check for check in self.checks if check.agreement not in agreed)


def evaluate(scenario: Scenario, stated: Sequence[Stated] = ()) -> ScenarioValue:
    """Return the value of each product and of the scene, with every comparison that is possible.

    Inputs are independent, but that the same figure of an experiment is the same in all products.
    A promotion cost by user falls as users rise: their errors are carried together.
    """
    rows = tuple(_product(product) for product in scenario.products)
    total = sum_of([term for product in scenario.products for term in _terms(product)])
    direct = scenario.direct_income
    both = Undefined.NOT_GIVEN if direct is None else Estimate(direct + total.value, total.std_err)
    value = ScenarioValue(
        products=rows,
        total=total,
        direct_and_total=both,
        uplift=_uplift(total, direct),
        direct_payback_years=_years(scenario.investment, direct),
        payback_years=_years(
            scenario.investment, None if isinstance(both, Undefined) else both.value
        ),
        contract_return=_contract_return(scenario, both),
        checks=tuple(check for product in scenario.products for check in _derived(product)),
    )
    results = [(each, getattr(value, each.quantity.value)) for each in stated]
    printed = tuple(beside_derived(each, derived) for each, derived in results)
    return replace(value, checks=value.checks + printed)


def _product(product: Product) -> ProductValue:
    value = sum_of(_terms(product))
    if product.fixed is not None:
        return ProductValue(product.name, None, None, value)
    users = _users(product)
    return ProductValue(product.name, users, _value_of_user(product, users), value)


def _terms(product: Product) -> list[Term]:
    """What a product is worth: users * value, or users * gross value - promotion cost."""
    if product.fixed is not None:
        return [Term((product.fixed.factor(),))]
    users = _users_factors(product)
    if product.value is not None:
        return [Term((*users, product.value.factor()))]
    _value_of_user(product, _users(product))  # refuses what derives none
    gross, cost = product.gross_value, product.promotion_cost
    assert gross is not None
    assert cost is not None
    return [Term((*users, gross.factor())), Term((cost.factor(),), -1.0)]


def _users_factors(product: Product) -> tuple[Factor, ...]:
    if product.users is not None:
        return (product.users.factor(),)
    parts = (product.visitors, product.share, product.convenience)
    known = tuple(part.factor() for part in parts if part is not None)
    if len(known) < len(parts):
        raise invalid(
            f"products.{product.name}",
            "neither users nor all of visitors, share and convenience",
            "a fixed value, users, or visitors with share and convenience",
        )
    return known


def _users(product: Product) -> Estimate:
    return product_of([factor.estimate for factor in _users_factors(product)])


def _derived_users(product: Product) -> Estimate | None:
    parts = (product.visitors, product.share, product.convenience)
    known = [part.estimate for part in parts if part is not None]
    return product_of(known) if len(known) == len(parts) else None


def _value_of_user(product: Product, users: Estimate) -> Estimate:
    if product.value is not None:
        return product.value.estimate
    derived = _derived_value(product, users)
    if derived is None:
        raise invalid(
            f"products.{product.name}.value",
            "neither a value nor a gross value with the cost of promotion",
            "the value of a user, or both of those with users above 0",
        )
    return derived


def _derived_value(product: Product, users: Estimate) -> Estimate | None:
    """Gross value less the cost of promotion by user, its error to the first order."""
    gross, cost = product.gross_value, product.promotion_cost
    if gross is None or cost is None or users.value <= 0:
        return None
    each = cost.value / users.value
    errors = (cost.estimate.std_err / users.value, each * users.std_err / users.value)
    return Estimate(gross.value - each, math.hypot(gross.estimate.std_err, *errors))


def _derived(product: Product) -> list[Check]:
    """Compare what a product gives with what its other inputs derive."""
    if product.fixed is not None:
        return []
    users, found = _users(product), []
    derived_users = _derived_users(product)
    if product.users is not None and derived_users is not None:
        found.append(
            compared(Quantity.USERS, product.name, product.users.value, derived_users.value)
        )
    derived_value = _derived_value(product, users)
    if product.value is not None and derived_value is not None:
        found.append(
            compared(
                Quantity.VALUE_PER_USER, product.name, product.value.value, derived_value.value
            )
        )
    return found


def _uplift(total: Estimate, direct: float | None) -> Estimate | Undefined:
    if direct is None:
        return Undefined.NOT_GIVEN
    return total.times(1.0 / direct) if direct > 0 else Undefined.ZERO_DENOMINATOR


def _years(investment: float | None, income: float | None) -> float | Undefined:
    if investment is None or income is None:
        return Undefined.NOT_GIVEN
    return investment / income if income > 0 else Undefined.NOT_PAID_BACK


def _contract_return(scenario: Scenario, both: Estimate | Undefined) -> float | Undefined:
    if isinstance(both, Undefined):
        return both
    if scenario.investment is None or scenario.contract_years is None:
        return Undefined.NOT_GIVEN
    return both.value * scenario.contract_years / scenario.investment
