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
from shared.errors import invalid

COARSE = 0.05
SMALLEST_UNIT = 1e-9


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
        if self.fixed is not None and (self.users or self.visitors or self.value):
            raise invalid(f"products.{self.name}", "fixed beside users", "a fixed value alone")
        for name in ("share", "convenience"):
            part: Input | None = getattr(self, name)
            # A measured share may be below zero by chance: it is shown as it was measured.
            if part is not None and part.source is Source.GIVEN and not 0 <= part.value <= 1:
                raise invalid(f"products.{self.name}.{name}", part.value, "a share from 0 to 1")
        for name in ("visitors", "users"):
            count: Input | None = getattr(self, name)
            if count is not None and count.source is Source.GIVEN and count.value < 0:
                raise invalid(f"products.{self.name}.{name}", count.value, "at least 0")


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


class Quantity(Enum):
    """What a stated figure can be compared with."""

    USERS = "users"
    VALUE_PER_USER = "value_per_user"
    TOTAL = "total"
    DIRECT_AND_TOTAL = "direct_and_total"
    UPLIFT = "uplift"
    DIRECT_PAYBACK_YEARS = "direct_payback_years"
    PAYBACK_YEARS = "payback_years"
    CONTRACT_RETURN = "contract_return"
    INPUT = "input"


class Agreement(Enum):
    """How a stated figure relates to the derived one.

    COARSELY_ROUNDED is right at its decimals and yet more than 5 % off: 2 years for 1.65.
    """

    EXACT = "exact"
    ROUNDED = "rounded"
    COARSELY_ROUNDED = "coarsely_rounded"
    TRUNCATED = "truncated"
    INCONSISTENT = "inconsistent"
    WITHIN_INTERVAL = "within_interval"


@dataclass(frozen=True, slots=True)
class Stated:
    """A result that a document prints, in units of `unit` (10,000 for ten thousand yuan)."""

    quantity: Quantity
    value: float
    decimals: int
    unit: float = 1.0

    def __post_init__(self) -> None:
        if self.quantity in (Quantity.USERS, Quantity.VALUE_PER_USER, Quantity.INPUT):
            raise invalid("stated.quantity", self.quantity, "a result of the whole scenario")
        if not 0 <= self.decimals <= 9:
            raise invalid("stated.decimals", self.decimals, "0 to 9")
        if not (math.isfinite(self.value) and SMALLEST_UNIT <= self.unit < math.inf):
            raise invalid(
                "stated", (self.value, self.unit), f"finite numbers, a unit from {SMALLEST_UNIT}"
            )


@dataclass(frozen=True, slots=True)
class Check:
    """A given or printed figure beside the derived one, both in the same unit.

    `input` is the field of the product where what is given stands beside what was measured.
    """

    quantity: Quantity
    product: str
    given: float
    derived: float
    agreement: Agreement
    input: str = ""

    @property
    def message(self) -> str:
        """Both figures, for a reader."""
        about = f" of {self.product}" if self.product else ""
        name = (self.input or self.quantity.value).replace("_", " ")
        how = "measured" if self.input else "derived"
        return f"{name}{about}: {self.given:.10g} is given and {self.derived:.10g} {how}"


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

    Inputs of a product are independent, and so are products: standard errors are those of a
    product of independent estimates (Goodman 1960, equation 2) and of a sum.
    """
    rows = tuple(_product(product) for product in scenario.products)
    total = Estimate(
        math.fsum(row.value.value for row in rows),
        math.sqrt(math.fsum(row.value.std_err**2 for row in rows)),
    )
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
    printed = tuple(_printed(each, value) for each in stated)
    return replace(value, checks=value.checks + tuple(c for c in printed if c is not None))


def _product(product: Product) -> ProductValue:
    if product.fixed is not None:
        return ProductValue(product.name, None, None, product.fixed.estimate)
    users = _users(product)
    value = _value_of_user(product, users)
    return ProductValue(product.name, users, value, product_of((users, value)))


def _users(product: Product) -> Estimate:
    if product.users is not None:
        return product.users.estimate
    derived = _derived_users(product)
    if derived is None:
        raise invalid(
            f"products.{product.name}",
            "neither users nor all of visitors, share and convenience",
            "a fixed value, users, or visitors with share and convenience",
        )
    return derived


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
    """Gross value less the cost of promotion by user; the cost of a user is taken as exact."""
    gross, cost = product.gross_value, product.promotion_cost
    if gross is None or cost is None or users.value <= 0:
        return None
    return Estimate(gross.value - cost.value / users.value, gross.estimate.std_err)


def product_of(parts: Sequence[Estimate]) -> Estimate:
    """Return the product of independent estimates with its exact standard error.

    Source: Goodman (1960), "On the exact variance of products", equation 2, for any number of
    factors: the product of (mean^2 + variance) less the product of mean^2.
    """
    value = math.prod(part.value for part in parts)
    whole = math.prod(part.value**2 + part.std_err**2 for part in parts)
    return Estimate(value, math.sqrt(max(whole - value**2, 0.0)) if _any_error(parts) else 0.0)


def _any_error(parts: Sequence[Estimate]) -> bool:
    return any(part.std_err for part in parts)


def _derived(product: Product) -> list[Check]:
    """Compare what a product gives with what its other inputs derive."""
    if product.fixed is not None:
        return []
    users, found = _users(product), []
    derived_users = _derived_users(product)
    if product.users is not None and derived_users is not None:
        found.append(
            _compared(Quantity.USERS, product.name, product.users.value, derived_users.value)
        )
    derived_value = _derived_value(product, users)
    if product.value is not None and derived_value is not None:
        found.append(
            _compared(
                Quantity.VALUE_PER_USER, product.name, product.value.value, derived_value.value
            )
        )
    return found


def _compared(quantity: Quantity, product: str, stated: float, derived: float) -> Check:
    same = math.isclose(stated, derived, rel_tol=1e-9, abs_tol=1e-9)
    agreement = Agreement.EXACT if same else Agreement.INCONSISTENT
    return Check(quantity, product, stated, derived, agreement)


def beside_measured(
    product: str, field: str, stated: float, found: Estimate, interval: tuple[float, float]
) -> Check:
    """Compare a given input with what an experiment measured: outside of its interval it differs.

    An end of the interval may be infinite.
    """
    low, high = interval
    agreement = Agreement.WITHIN_INTERVAL if low <= stated <= high else Agreement.INCONSISTENT
    return Check(Quantity.INPUT, product, stated, found.value, agreement, field)


def _printed(stated: Stated, value: ScenarioValue) -> Check | None:
    """Compare a printed figure at its own number of decimals; None where no number is derived."""
    derived = getattr(value, stated.quantity.value)
    if isinstance(derived, Undefined):
        return None
    number = (derived.value if isinstance(derived, Estimate) else derived) / stated.unit
    if not math.isfinite(number):
        return None
    step = 10.0**-stated.decimals
    # A rounding of the computation must not decide about a figure that ends in a five.
    slack = 1e-12 * max(abs(number), step)
    apart = number - stated.value
    if abs(apart) <= slack:
        agreement = Agreement.EXACT
    elif abs(apart) <= step / 2 + slack:
        coarse = abs(apart) > COARSE * abs(number)
        agreement = Agreement.COARSELY_ROUNDED if coarse else Agreement.ROUNDED
    elif 0 < math.copysign(1.0, number) * apart < step:
        agreement = Agreement.TRUNCATED
    else:
        agreement = Agreement.INCONSISTENT
    return Check(stated.quantity, "", stated.value, number, agreement)


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
