"""Figures of a scene that are given or printed, beside those that are derived or measured."""

import math
from dataclasses import dataclass
from enum import Enum

from services.attribution.domain.economics import Figure, Undefined
from services.attribution.domain.lift import Estimate
from shared.errors import invalid

COARSE = 0.05
SMALLEST_UNIT = 1e-9


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
    NOT_DERIVED has nothing that it could be compared with.
    """

    EXACT = "exact"
    ROUNDED = "rounded"
    COARSELY_ROUNDED = "coarsely_rounded"
    TRUNCATED = "truncated"
    INCONSISTENT = "inconsistent"
    WITHIN_INTERVAL = "within_interval"
    NOT_DERIVED = "not_derived"


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
    `derived` is undefined where nothing is.
    """

    quantity: Quantity
    product: str
    given: float
    derived: Figure
    agreement: Agreement
    input: str = ""

    @property
    def message(self) -> str:
        """Both figures, for a reader."""
        about = f" of {self.product}" if self.product else ""
        name = (self.input or self.quantity.value).replace("_", " ")
        how = "measured" if self.input else "derived"
        if isinstance(self.derived, Undefined):
            why = self.derived.value.replace("_", " ")
            return f"{name}{about}: {self.given:.10g} is given and nothing {how}: {why}"
        return f"{name}{about}: {self.given:.10g} is given and {self.derived:.10g} {how}"


def compared(quantity: Quantity, product: str, stated: float, derived: float) -> Check:
    """Compare a given input of a product with what its other inputs derive."""
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


def beside_derived(stated: Stated, derived: Estimate | Figure) -> Check:
    """Compare a printed figure at its own number of decimals."""
    if isinstance(derived, Undefined):
        return Check(stated.quantity, "", stated.value, derived, Agreement.NOT_DERIVED)
    number = (derived.value if isinstance(derived, Estimate) else derived) / stated.unit
    if not math.isfinite(number):
        never = Undefined.NOT_PAID_BACK
        return Check(stated.quantity, "", stated.value, never, Agreement.NOT_DERIVED)
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
