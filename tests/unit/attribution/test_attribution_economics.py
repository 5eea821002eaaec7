"""Costs that are counted once, ratios that are defined or say why not, and payback."""

import datetime as dt
import math
from dataclasses import replace
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.attribution.domain.economics import (
    CostBasis,
    CostConflict,
    CostRules,
    ExchangeRates,
    Figure,
    SourceRule,
    Spend,
    SpendKey,
    Undefined,
    channel_costs,
    channel_economics,
    payback,
    replace_spend,
)
from shared.errors import DomainError

MONDAY = dt.date(2026, 3, 2)
CNY = ExchangeRates("CNY", {"USD": 7.0})


def spent(
    amount: float,
    channel: str = "search",
    campaign: str = "spring",
    source: str = "ads",
    currency: str = "CNY",
    day: dt.date = MONDAY,
) -> Spend:
    return Spend(SpendKey(source, channel, campaign, day), amount, currency)


def test_an_import_of_the_same_key_replaces_and_does_not_add() -> None:
    ledger = replace_spend((), [spent(100), spent(40, campaign="")])
    ledger = replace_spend(ledger, [spent(90)])
    again = replace_spend(ledger, [spent(90)])

    assert [row.amount for row in ledger] == [40, 90]
    assert again == ledger
    assert channel_costs(ledger, {}, CNY)[0].cost == 130


def test_two_amounts_for_one_key_in_one_import_are_refused() -> None:
    with pytest.raises(DomainError, match="one row for each source"):
        replace_spend((), [spent(100), spent(60)])


def test_one_day_is_charged_by_one_source_only() -> None:
    rows = [spent(100), spent(103, source="invoice"), spent(50, campaign="autumn")]

    by_name = channel_costs(rows, {}, CNY)[0]
    by_rank = channel_costs(rows, {}, CNY, CostRules(precedence=("invoice",)))[0]

    assert (by_name.cost, by_name.sources) == (150, ("ads",))
    assert by_name.conflicts == (CostConflict("search", "ads", 103, rows[1]),)
    assert (by_rank.cost, by_rank.sources) == (103, ("invoice",))
    assert {conflict.amount for conflict in by_rank.conflicts} == {100, 50}


def test_sources_that_tell_of_campaigns_of_their_own_are_both_counted() -> None:
    rows = [spent(100), spent(103, source="invoice"), spent(50, campaign="autumn")]
    rules = CostRules(precedence=("invoice",), one_source=SourceRule.CAMPAIGN_DAY)

    (found,) = channel_costs(rows, {}, CNY, rules)

    assert (found.cost, found.sources) == (153, ("ads", "invoice"))
    assert found.conflicts == (CostConflict("search", "invoice", 100, rows[0]),)


@given(
    st.lists(
        st.builds(
            spent,
            st.integers(0, 100).map(float),
            campaign=st.sampled_from(("", "a", "b")),
            source=st.sampled_from(("x", "y", "z")),
            day=st.sampled_from((MONDAY, MONDAY + dt.timedelta(days=1))),
        ),
        min_size=1,
        unique_by=lambda row: row.key,
    ),
    st.sampled_from(SourceRule),
    st.permutations(("x", "y", "z")),
)
def test_every_row_is_counted_or_left_out_and_never_both(
    rows: list[Spend], one_source: SourceRule, precedence: list[str]
) -> None:
    rules = CostRules(precedence=tuple(precedence), one_source=one_source)

    (found,) = channel_costs(rows, {}, CNY, rules)

    left = [conflict.left_out for conflict in found.conflicts]
    counted = [row for row in rows if row not in left]
    assert found.cost == math.fsum(row.amount for row in counted)
    per_cell: dict[object, set[str]] = {}
    for row in counted:
        per_cell.setdefault(rules.cell(row), set()).add(row.key.source)
    assert all(len(sources) == 1 for sources in per_cell.values())


@given(
    st.lists(st.integers(0, 10_000), min_size=1, max_size=20),
    st.integers(1, 10_000),
    st.integers(0, 19),
    st.randoms(use_true_random=False),
)
def test_a_cent_more_of_spend_is_a_cent_more_of_cost(
    cents: list[int], more: int, place: int, order: Any
) -> None:
    """Whole cents in are whole cents out, in any order, and ratios move the right way."""
    rows = [spent(c / 100, campaign=f"c{n}") for n, c in enumerate(cents)]
    changed = rows[place % len(rows)]
    dearer = replace_spend(rows, [replace(changed, amount=round(changed.amount + more / 100, 2))])

    (one,) = channel_costs(order.sample(rows, len(rows)), {}, CNY)
    (other,) = channel_costs(dearer, {}, CNY)

    assert one.cost == sum(cents) / 100
    assert other.cost == (sum(cents) + more) / 100
    before, after = (
        channel_economics("search", conversions=3, value=50, cost=each.cost)
        for each in (one, other)
    )
    assert isinstance(before.margin, float)
    assert isinstance(after.margin, float)
    assert after.margin < before.margin
    if sum(cents):
        assert not isinstance(before.return_on_spend, Undefined)
        assert not isinstance(after.return_on_spend, Undefined)
        assert after.return_on_spend < before.return_on_spend


def test_a_rate_of_the_currency_of_the_answer_is_one_or_a_mistake() -> None:
    assert ExchangeRates("CNY", {"CNY": 1.0, "USD": 7.0}).convert(3.0, "CNY") == 3.0
    with pytest.raises(DomainError, match=r"rates.CNY is 7.1; allowed: 1, as the answer is in CNY"):
        ExchangeRates("CNY", {"CNY": 7.1})


def test_touch_costs_and_imported_spend_are_never_added() -> None:
    rows = [spent(100)]
    touches: dict[str, Figure] = {
        "search": 80.0,
        "mail": 5.0,
        "video": Undefined.COST_UNKNOWN,
    }

    either = {c.channel: c for c in channel_costs(rows, touches, CNY)}
    imported = {
        c.channel: c.cost for c in channel_costs(rows, touches, CNY, CostRules(CostBasis.IMPORTED))
    }
    logged = {
        c.channel: c.cost for c in channel_costs(rows, touches, CNY, CostRules(CostBasis.TOUCHES))
    }

    assert either["search"].cost == 100
    assert either["search"].conflicts == (CostConflict("search", "ads", 80.0, None),)
    assert (either["mail"].cost, either["mail"].from_touches) == (5, True)
    assert either["video"].cost is Undefined.COST_UNKNOWN
    unknown = Undefined.COST_UNKNOWN
    assert imported == {"search": 100, "mail": unknown, "video": unknown}
    assert logged == {"search": 80, "mail": 5, "video": unknown}


def test_currencies_are_converted_by_given_rates_or_not_added() -> None:
    assert channel_costs([spent(10, currency="USD")], {}, CNY)[0].cost == 70
    mixed = [spent(10), spent(10, campaign="", currency="EUR")]
    assert channel_costs(mixed, {}, CNY)[0].cost is Undefined.MIXED_CURRENCIES


def test_the_order_of_rows_changes_no_digit() -> None:
    rows = [spent(amount, campaign=f"c{amount}") for amount in (0.1, 0.2, 0.3, 1e15)]

    costs = {channel_costs(order, {}, CNY)[0].cost for order in permutations(rows)}

    assert costs == {math.fsum([0.1, 0.2, 0.3, 1e15])}


def test_ratios_by_hand() -> None:
    found = channel_economics("search", conversions=20, value=1000, cost=400, margin_rate=0.6)

    assert found.cost_per_conversion == 20
    assert found.return_on_spend == 2.5
    assert found.margin == 200
    assert found.return_on_investment == 0.5


@pytest.mark.parametrize(
    ("conversions", "cost", "per_conversion", "on_spend"),
    [
        (5, 0.0, Undefined.ZERO_COST, Undefined.ZERO_COST),
        (0, 10.0, Undefined.NO_CONVERSIONS, 0.0),
        (5, Undefined.COST_UNKNOWN, Undefined.COST_UNKNOWN, Undefined.COST_UNKNOWN),
    ],
)
def test_what_is_undefined_says_why(
    conversions: float, cost: Figure, per_conversion: Figure, on_spend: Figure
) -> None:
    found = channel_economics("search", conversions, 0.0, cost)

    assert found.cost_per_conversion == per_conversion
    assert found.return_on_spend == on_spend


@given(
    st.floats(0, 1e9),
    st.floats(-1e9, 1e9),
    st.one_of(st.just(0.0), st.floats(1e-3, 1e9), st.sampled_from(Undefined)),
)
def test_no_ratio_is_ever_infinite_or_nan(conversions: float, value: float, cost: Figure) -> None:
    found = channel_economics("search", conversions, value, cost)

    for name in ("cost_per_conversion", "return_on_spend", "margin", "return_on_investment"):
        figure = getattr(found, name)
        assert isinstance(figure, Undefined) or not math.isnan(figure)
    if cost == 0:
        assert found.return_on_spend is Undefined.ZERO_COST


def test_payback_is_the_age_from_which_the_cost_stays_covered() -> None:
    assert payback([2.0, 6.0, 11.0, 12.0], 10.0).days == 2
    # A refund on day 3 takes the margin below the cost again.
    assert payback([2.0, 11.0, 11.0, 9.0, 12.0], 10.0).days == 4
    late = payback([2.0, 6.0, Undefined.NOT_OBSERVED], 10.0)
    assert (late.days, late.recovered, late.observed_days) == (Undefined.NOT_PAID_BACK, 0.6, 2)
    assert payback([1.0], 0.0).days is Undefined.ZERO_COST
    assert payback([], 5.0).days is Undefined.NOT_OBSERVED
    assert payback([1.0], Undefined.COST_UNKNOWN).days is Undefined.COST_UNKNOWN


@pytest.mark.parametrize(("amount", "currency"), [(-1, "CNY"), (math.nan, "CNY"), (1, "yuan")])
def test_spend_that_cannot_be_is_refused(amount: float, currency: str) -> None:
    with pytest.raises(DomainError):
        spent(amount, currency=currency)
