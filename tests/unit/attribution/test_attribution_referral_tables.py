"""What referrals brought, row by row, on random campaigns."""

from hypothesis import given
from hypothesis import strategies as st

from services.attribution.domain.referral_tables import Purchases, ReferralTable, referral_tables
from services.attribution.domain.referrals import DAY_US, Campaign, Invitation, judge

USERS = "abcdefgh"
INVITATIONS = st.lists(
    st.builds(
        Invitation,
        time_us=st.integers(0, 20).map(lambda day: day * DAY_US),
        inviter=st.sampled_from(USERS),
        invitee=st.sampled_from(USERS),
    ),
    max_size=40,
)
REGISTERED = st.dictionaries(
    st.sampled_from(USERS), st.integers(0, 40).map(lambda day: day * DAY_US)
)


def campaign_of(invitations: list[Invitation], registered: dict[str, int]) -> Campaign:
    return Campaign(frozenset(), {}, invitations, registered, {}, watermark_us=100 * DAY_US)


def total(table: ReferralTable) -> tuple[int, int, float]:
    rows = [*table.rows, *(row for row in (table.others, table.suppressed) if row is not None)]
    return (
        sum(row.units for row in rows),
        sum(row.conversions for row in rows),
        sum(row.value for row in rows),
    )


@given(INVITATIONS, REGISTERED, st.integers(1, 4), st.integers(1, 3))
def test_every_row_or_nothing_is_told_and_rows_of_few_units_are_not(
    invitations: list[Invitation], registered: dict[str, int], min_units: int, most: int
) -> None:
    campaign = campaign_of(invitations, registered)
    bought = {unit: Purchases(number, 2.0 * number) for number, unit in enumerate(USERS)}
    judged = judge(campaign)
    brought = judged.brought

    found = referral_tables(judged, bought, min_units, most)

    expected = (
        len(brought),
        sum(bought[unit].count for unit in brought),
        sum(bought[unit].value for unit in brought),
    )
    # Everybody who was brought stands in one row of each of these tables.
    for table in (found.by_depth, found.by_size, found.by_referrer):
        assert total(table) == ((0, 0, 0) if table.withheld else expected)
        assert all(row.units >= min_units for row in table.rows)
        assert table.suppressed is None or table.suppressed.units >= min_units
    assert len(found.by_referrer.rows) <= most
    depths = [int(row.name) for row in found.by_depth.rows]
    assert depths == sorted(depths)


@given(INVITATIONS, REGISTERED)
def test_a_place_is_one_step_behind_that_of_the_inviter(
    invitations: list[Invitation], registered: dict[str, int]
) -> None:
    judged = judge(campaign_of(invitations, registered))
    brought, found = judged.brought, judged.places

    assert found.keys() == brought.keys()
    for unit, inviter in brought.items():
        above = found.get(inviter)
        assert found[unit].depth == (1 if above is None else above.depth + 1)
        assert found[unit].start == (inviter if above is None else above.start)


@given(INVITATIONS, REGISTERED, st.randoms())
def test_tables_do_not_depend_on_the_order_of_rows(
    invitations: list[Invitation], registered: dict[str, int], randoms: object
) -> None:
    mixed = sorted(invitations, key=lambda _: randoms.random())  # type: ignore[attr-defined]
    one = referral_tables(judge(campaign_of(invitations, registered)), {}, 2, 2)

    assert referral_tables(judge(campaign_of(mixed, registered)), {}, 2, 2) == one
