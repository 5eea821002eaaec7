"""What ReferralLog promises, over the event tables."""

import datetime as dt
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from services.attribution.adapters.referrals_lake import LakeReferralLog
from services.attribution.application.referral_ports import (
    ReferralCampaign,
    ReferralEvents,
    ReferralQuery,
)
from services.attribution.domain.referrals import Invitation
from shared.errors import Code, DomainError
from shared.identity.belonging import Stitching
from shared.identity.policy import IdentityPolicy, IdType, StoredPolicy
from shared.identity.reader import IdentityReader
from shared.lake.rows import table_of
from shared.lake.snapshot import LakeEventTables
from shared.lake.writer import LakeWriter
from shared.testing.fakes import FixedClock
from shared.testing.policies import FixedPolicies

START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
START_US = 1_767_225_600_000_000
NOW = dt.datetime(2026, 2, 1, tzinfo=dt.UTC)
CAMPAIGN = ReferralCampaign("signup", "buy", activity_events=("visit",))
QUERY = ReferralQuery("acme", CAMPAIGN, max_invitations=100)
POLICY = StoredPolicy(IdentityPolicy((IdType("user", 2),)), 1)

Row = dict[str, Any]


def row(event_id: str, unit: str, second: float, **more: Any) -> Row:
    time = START + dt.timedelta(seconds=second)
    return {"event_id": event_id, "project": "acme", "event_time": time, "unit_id": unit} | more


def invited(event_id: str, inviter: object, invitee: str, second: float, **more: Any) -> Row:
    properties = {"referrer": inviter} | more.pop("properties", {})
    return row(event_id, invitee, second, channel="friends", properties=properties, **more)


def did(name: str, unit: str, second: float, **more: Any) -> Row:
    return row(f"{name}-{unit}-{second}", unit, second, event_name=name, **more)


def link(one: str, other: str, second: float) -> Row:
    ends = {"other_unit_type": "user", "other_unit_id": other}
    return row(f"l-{one}-{other}", one, second) | {"unit_type": "user"} | ends


def log_of(folder: Path, **tables: Sequence[Row]) -> LakeReferralLog:
    if tables:
        writer = LakeWriter(folder, "journal-a", FixedClock(NOW))
        writer.append({name: table_of(name, rows) for name, rows in tables.items()}, 1)
    return LakeReferralLog(LakeEventTables(folder), IdentityReader(FixedPolicies(POLICY)))


def at(second: float) -> int:
    return START_US + int(second * 1_000_000)


def test_a_project_without_events_gives_nothing(tmp_path: Path) -> None:
    found = log_of(tmp_path).read(QUERY)

    assert (found.invitations, found.shown, found.newest_us, found.watermark) == (
        (),
        frozenset(),
        None,
        "",
    )


def test_only_texts_that_name_somebody_are_invitations_and_only_of_the_project(
    tmp_path: Path,
) -> None:
    rows = [
        invited("i1", "ann", "bob", 1, properties={"failure_reason": "expired"}),
        invited("i2", "", "cat", 2),
        invited("i3", 7, "cat", 3),
        invited("i4", None, "cat", 4),
        invited("i5", "ann", "cat", 5, project="other"),
        row("i6", "cat", 6, channel="friends"),
    ]

    found = log_of(tmp_path, touchpoints=rows).read(QUERY)

    assert found.invitations == (Invitation(at(1), "ann", "bob", "expired"),)
    assert found.newest_us == at(1)


def test_what_users_did(tmp_path: Path) -> None:
    rows = [
        did("signup", "bob", 5),
        did("signup", "bob", 3),
        did("buy", "bob", 9, value=2.5, currency="EUR"),
        did("buy", "bob", 8),
        did("share", "ann", 1),
        did("share", "ann", 2),
        did("visit", "bob", 7),
        did("other", "bob", 99),
        did("share", "ann", 1.5, project="other"),
    ]

    found = log_of(tmp_path, conversions=rows).read(QUERY)

    assert found.registered == {"bob": at(3)}
    assert found.bought == {"bob": ((at(8), 0.0), (at(9), 2.5))}
    assert found.shares == {"ann": 2}
    assert found.active == {"bob": (at(7),)}
    assert found.newest_us == at(9)
    assert found.currencies == ("EUR",)
    bounded = replace(CAMPAIGN, start_us=at(2), end_us=at(3))
    later = log_of(tmp_path).read(replace(QUERY, campaign=bounded))
    # Whoever registered before is known still.
    assert (later.shares, later.registered) == ({"ann": 1}, {"bob": at(3)})


def test_inviter_and_invitee_count_as_the_first_seen_of_their_identity(tmp_path: Path) -> None:
    touches = [
        row("s1", "ann", 0, channel="banner"),
        row("s2", "bob", 0, channel="banner"),
        invited("i1", "ann-2", "bob-2", 10),
    ]
    links = [link("ann", "ann-2", 20), link("bob", "bob-2", 20)]

    log = log_of(tmp_path, touchpoints=touches, identifies=links)

    assert log.read(QUERY).invitations == (Invitation(at(10), "ann", "bob"),)
    then = replace(CAMPAIGN, stitching=Stitching.POINT_IN_TIME)
    found = log.read(replace(QUERY, campaign=then))
    assert found.invitations == (Invitation(at(10), "ann-2", "bob-2"),)
    assert found.identity_version.startswith("p1-e")


def test_an_invitation_of_no_unit_of_the_type_is_left_out(tmp_path: Path) -> None:
    rows = [invited("i1", "ann", "d-1", 1, unit_type="device"), invited("i2", "ann", "bob", 2)]

    found = log_of(tmp_path, touchpoints=rows).read(QUERY)

    assert found.invitations == (Invitation(at(2), "ann", "bob"),)
    assert found.unresolved == 1


def test_a_code_is_of_the_first_who_claims_it(tmp_path: Path) -> None:
    """And never of the invitee, whom the same event names as its unit."""
    code = {"unit_type": "code"}
    links = [link("spring", "ann", 0) | code, link("spring", "bob", 1) | code]
    known = json.dumps([{"type": "user", "id": "eve"}])
    touches = [
        invited("i1", "spring", "fay", 10),
        invited("i2", "nobody-s", "gus", 11),
        invited("i3", "spring", "d-1", 12, unit_type="device", linked_units=known),
        # The code of ann, which she gives to herself.
        invited("i4", "spring", "ann", 13),
    ]
    log = log_of(tmp_path, touchpoints=touches, identifies=links)
    campaign = replace(CAMPAIGN, referrer_type="code")
    policy = StoredPolicy(IdentityPolicy((IdType("user", 1),)), 1)
    one_user = LakeReferralLog(LakeEventTables(tmp_path), IdentityReader(FixedPolicies(policy)))

    found = one_user.read(replace(QUERY, campaign=campaign))

    assert found.invitations == (
        Invitation(at(13), "ann", "ann"),
        Invitation(at(12), "ann", "eve"),
        Invitation(at(10), "ann", "fay"),
    )
    assert found.unresolved == 1
    # By ids of users a code is a stranger.
    assert {one.inviter for one in log.read(QUERY).invitations} == {"spring", "nobody-s"}


def test_the_order_of_arrival_changes_nothing(tmp_path: Path) -> None:
    touches = [invited(f"i{n}", "ann", f"u{n}", n % 3) for n in range(9)]
    events = [did("signup", f"u{n}", 4 - n % 2) for n in range(9)]

    def read(folder: str, turned: int) -> ReferralEvents:
        tables = {"touchpoints": touches[::turned], "conversions": events[::turned]}
        found = log_of(tmp_path / folder, **tables).read(QUERY)
        return replace(found, watermark="", invitations=tuple(sorted(found.invitations)))

    assert read("one", 1) == read("two", -1)


def test_too_many_invitations_are_refused(tmp_path: Path) -> None:
    log = log_of(tmp_path, touchpoints=[invited(f"i{n}", "a", f"u{n}", n) for n in range(3)])

    assert len(log.read(replace(QUERY, max_invitations=3)).invitations) == 3
    with pytest.raises(DomainError) as raised:
        log.read(replace(QUERY, max_invitations=2))
    assert raised.value.code is Code.RESOURCE_EXHAUSTED
    assert "invitations" in raised.value.message


def test_a_past_cut_is_read_as_it_was(tmp_path: Path) -> None:
    before = log_of(tmp_path, touchpoints=[invited("i1", "ann", "bob", 1)]).read(QUERY)
    LakeWriter(tmp_path, "journal-a", FixedClock(NOW)).append(
        {"touchpoints": table_of("touchpoints", [invited("i2", "a", "b", 2) | {"position": 2}])}, 2
    )

    assert len(log_of(tmp_path).read(QUERY).invitations) == 2
    again = log_of(tmp_path).read(replace(QUERY, as_of=before.watermark))
    assert again.invitations == before.invitations
    assert (again.watermark, again.watermark_time) == (before.watermark, None)
