"""Referral campaigns by hand, and chains on random invitations."""

import itertools
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.attribution.domain.economics import Undefined
from services.attribution.domain.referrals import DAY_US, Campaign, Invitation, report
from shared.errors import DomainError


def invited(day: float, inviter: str, invitee: str, reason: str = "") -> Invitation:
    return Invitation(int(day * DAY_US), inviter, invitee, reason)


def campaign(
    invitations: Sequence[Invitation],
    registered: Mapping[str, float],
    *,
    reached: str = "",
    shares: Mapping[str, int] | None = None,
    active: Mapping[str, Sequence[float]] | None = None,
    watermark: float = 100.0,
) -> Campaign:
    """Users are letters and times are days."""
    return Campaign(
        reached=frozenset(reached),
        shares=shares or {},
        invitations=invitations,
        registered={user: int(day * DAY_US) for user, day in registered.items()},
        active={u: [int(day * DAY_US) for day in days] for u, days in (active or {}).items()},
        watermark_us=int(watermark * DAY_US),
        window_us=30 * DAY_US,
    )


def test_a_campaign_by_hand() -> None:
    found = report(
        campaign(
            [
                invited(1, "a", "x"),
                invited(2, "a", "y"),
                invited(3, "b", "z"),
                invited(4, "x", "w"),
            ],
            {"x": 1.5, "y": 5, "w": 6},
            reached="abcd",
            shares={"a": 5, "b": 1, "d": 0},
        )
    )

    assert (found.reached, found.sharers, found.shares) == (4, 2, 6)
    assert (found.share_rate, found.shares_per_user) == (0.5, 3.0)
    assert (found.invitees, found.registrations, found.registration_rate) == (4, 3, 0.75)
    # Sharers or inviters: a, b and x.
    assert found.invitees_per_sharer == pytest.approx(4 / 3)
    assert found.growth_factor == 0.75
    assert found.failures == (("not_registered", 1),)


def test_chains_have_depth_and_size() -> None:
    found = report(
        campaign(
            [
                invited(1, "a", "b"),
                invited(2, "b", "c"),
                invited(3, "c", "d"),
                invited(1, "a", "e"),
                invited(1, "p", "q"),
            ],
            {"b": 1, "c": 2, "d": 3, "e": 2, "q": 2},
        )
    ).chains

    assert (found.chains, found.longest, found.largest) == (2, 3, 4)
    assert found.by_depth == ((1, 3), (2, 1), (3, 1))
    assert found.by_size == ((1, 1), (4, 1))


def test_cycles_and_other_invitations_that_bring_nobody_are_counted() -> None:
    found = report(
        campaign(
            [
                invited(1, "a", "b"),
                invited(2, "b", "c"),
                invited(3, "c", "a"),
                invited(4, "a", "a"),
                invited(5, "z", "b"),
                invited(6, "z", "old"),
                invited(7, "z", "gone"),
                invited(8, "z", "gone"),
                invited(9, "z", "late", reason="link expired"),
            ],
            {"a": 10, "b": 11, "c": 12, "old": 2, "late": 80},
        )
    )

    assert found.registrations == 2
    assert dict(found.failures) == {
        "cycle": 1,
        "self_invitation": 1,
        "invited_by_another": 1,
        "already_registered": 1,
        "not_registered": 1,
        "repeated": 1,
        "link expired": 1,
    }
    assert found.chains.longest == 2


def test_what_the_events_call_failed_brings_nobody() -> None:
    rows = [
        invited(1, "a", "x", reason="link expired"),
        invited(2, "b", "x"),
        invited(3, "a", "y", reason="link expired"),
        invited(4, "a", "y", reason="link expired"),
    ]

    found = report(campaign(rows, {"x": 5, "y": 5}))

    # The later invitation brought x; y came by none of these.
    assert (found.registrations, found.chains.by_depth) == (1, ((1, 1),))
    assert found.failures == (("link expired", 3),)


def test_an_open_invitation_is_undecided_and_not_failed() -> None:
    rows = [invited(1, "a", "b"), invited(80, "a", "c")]

    found = report(campaign(rows, {}))
    later = report(campaign(rows, {"c": 99}, watermark=90))

    assert (found.undecided, found.failures) == (1, (("not_registered", 1),))
    # A registration after the watermark is not known yet.
    assert (later.undecided, later.registrations) == (1, 0)


def test_retention_asks_only_those_whose_day_is_over() -> None:
    found = report(
        campaign(
            [invited(1, "a", "b"), invited(1, "a", "c"), invited(90, "a", "d")],
            {"b": 2, "c": 2, "d": 95},
            active={"b": [3.5, 9.0], "c": [4.0], "d": [96.2]},
        ),
        retention_days=(1, 7, 98, 99),
    )

    assert [(kept.day, kept.observed, kept.share) for kept in found.retention] == [
        (1, 3, pytest.approx(2 / 3)),
        (7, 2, 0.5),
        (98, 0, Undefined.NOT_OBSERVED),
        (99, 0, Undefined.NOT_OBSERVED),
    ]


def test_a_campaign_that_nobody_saw_is_not_zero_per_cent() -> None:
    found = report(campaign([], {}))

    assert found.share_rate is Undefined.ZERO_DENOMINATOR
    assert found.registration_rate is Undefined.ZERO_DENOMINATOR
    assert found.chains.longest == 0


def test_a_long_chain_is_neither_slow_nor_too_deep() -> None:
    users = [f"u{number:05}" for number in range(20_000)]
    chain = [invited(1, one, other) for one, other in itertools.pairwise(users)]
    for rows in (chain, chain[::-1]):
        found = report(campaign(rows, dict.fromkeys(users, 2)))
        assert (found.chains.longest, found.chains.chains) == (19_999, 1)


EDGES = st.lists(
    st.tuples(st.integers(0, 20), st.sampled_from("abcdef"), st.sampled_from("abcdef")),
    max_size=30,
)


@given(EDGES, st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 30)), st.randoms())
def test_every_invitation_ends_once_and_order_changes_nothing(
    edges: list[tuple[int, str, str]], registered: dict[str, float], order: random.Random
) -> None:
    rows = [invited(*edge) for edge in edges]
    given_ = campaign(rows, registered, watermark=40)

    found = report(given_)

    ended = found.registrations + found.undecided + sum(count for _, count in found.failures)
    assert ended == len(rows)
    assert sum(size * chains for size, chains in found.chains.by_size) == found.registrations
    assert sum(count for _, count in found.chains.by_depth) == found.registrations
    assert found.chains.longest < 6
    shuffled = order.sample(rows, len(rows))
    assert report(replace(given_, invitations=shuffled)) == found


@pytest.mark.parametrize(
    "make",
    [
        lambda: invited(1, "", "b"),
        lambda: campaign([], {}, shares={"a": -1}),
        lambda: report(campaign([], {}), retention_days=(0,)),
        lambda: replace(campaign([], {}), window_us=0),
    ],
)
def test_what_cannot_be_is_refused(make: object) -> None:
    assert callable(make)
    with pytest.raises(DomainError):
        make()
