"""A referral campaign with everything that goes wrong in one: chains, circles, people who invite
themselves by a second phone, codes that two claim, against a count with dictionaries.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp
from touchstone.attribution.v1 import referral_service_pb2 as pb
from touchstone.attribution.v1 import referral_service_pb2_grpc as rpc
from touchstone.common.v1 import unit_pb2
from touchstone.events.v1 import event_pb2

from tests.e2e.suite import Suite
from tests.e2e.test_loop import log

START = dt.datetime(2026, 6, 1, tzinfo=dt.UTC)
WINDOW_H = 30 * 24
LONG = 300
"""People in a row, each invited by the one before."""


@dataclass
class Happened:
    """Invitations as hour, inviter, invitee and reason; when people registered, and the phones that
    invitations of some reach instead of themselves.
    """

    invitations: list[tuple[float, str, str, str]] = field(default_factory=list)
    registered: dict[str, float] = field(default_factory=dict)
    phones: dict[str, str] = field(default_factory=dict)


def happened() -> Happened:
    draw = np.random.default_rng(15)
    found = Happened()
    row = [f"row-{number:03}" for number in range(LONG + 1)]
    for number in range(LONG):
        found.invitations.append((number, row[number], row[number + 1], ""))
        found.registered[row[number + 1]] = number + 0.5
    # A circle of three, whose last invitation would close it.
    for hour, inviter, invitee in ((1.0, "a", "b"), (2.0, "b", "c"), (3.0, "c", "a")):
        found.invitations.append((hour, inviter, invitee, ""))
    found.registered |= {"b": 10, "c": 11, "a": 12}
    found.invitations += [
        (5, "self", "self", ""),
        (6, "cat", "late", "link expired"),
        (7, "dan", "late", ""),
        (8, "dan", "gone", ""),
        (9, "dan", "gone", ""),
    ]
    found.registered |= {"self": 20, "late": 30}
    # Members of a crowd invite each other at random: again, too late, somebody who is there.
    crowd = [f"member-{number:03}" for number in range(200)]
    for _ in range(700):
        inviter, invitee = draw.choice(crowd, 2).tolist()
        when = float(draw.integers(0, 2_000))
        reason = "blocked" if draw.random() < 0.05 else ""
        found.invitations.append((when, inviter, invitee, reason))
    for member in crowd[:150]:
        found.registered[member] = float(draw.integers(0, 2_500)) + 0.5
    found.phones["self"] = "self-phone"
    return found


def stamp(hour: float) -> Timestamp:
    time = Timestamp()
    time.FromDatetime(START + dt.timedelta(hours=hour))
    return time


def user(name: str) -> unit_pb2.UnitId:
    return unit_pb2.UnitId(type="user", id=name)


def invitation(
    event_id: str, hour: float, unit: unit_pb2.UnitId, properties: dict[str, str]
) -> event_pb2.Event:
    said = Struct()
    said.update(properties)
    return event_pb2.Event(
        event_id=event_id,
        event_time=stamp(hour),
        unit=unit,
        touchpoint=event_pb2.Touchpoint(channel="friends"),
        properties=said,
    )


def events_of(world: Happened) -> Iterator[event_pb2.Event]:
    for name, phone in world.phones.items():
        yield event_pb2.Event(
            event_id=f"phone-{name}",
            event_time=stamp(0),
            unit=unit_pb2.UnitId(type="device", id=phone),
            identify=event_pb2.Identify(other_unit=user(name)),
        )
    for number, (hour, inviter, invitee, reason) in enumerate(world.invitations):
        own = world.phones.get(invitee)
        unit = unit_pb2.UnitId(type="device", id=own) if own else user(invitee)
        said = {"referrer": inviter} | ({"failure_reason": reason} if reason else {})
        yield invitation(f"invited-{number}", hour, unit, said)
    for name, hour in world.registered.items():
        yield event_pb2.Event(
            event_id=f"signup-{name}",
            event_time=stamp(hour),
            unit=user(name),
            conversion=event_pb2.Conversion(event_name="signup"),
        )


@pytest.fixture(scope="module")
def world() -> Happened:
    return happened()


@pytest.fixture(scope="module")
def token(module_suite: Suite, world: Happened) -> str:
    return log(module_suite, list(events_of(world)))


def ask(suite: Suite, token: str, **fields: object) -> pb.GetReferralsResponse:
    stub = rpc.ReferralServiceStub(suite.channel("attribution"))
    campaign = pb.ReferralCampaign(registration_event="signup", **fields)  # type: ignore[arg-type]
    request = pb.GetReferralsRequest(
        campaign=campaign, consistency_token=token, min_units=1, max_referrers=1_000
    )
    return stub.GetReferrals(request, metadata=suite.metadata)


@dataclass
class Counted:
    """Who brought whom, and the reasons of the rest."""

    brought: dict[str, str]
    failures: Counter[str]
    undecided: int


def counted(world: Happened) -> Counted:
    """By the table of the reference, invitation by invitation."""
    until = max([*world.registered.values(), *(row[0] for row in world.invitations)])
    found = Counted({}, Counter(), 0)
    tried: set[tuple[str, str]] = set()
    for hour, inviter, invitee, reason in sorted(world.invitations):
        again = (inviter, invitee) in tried
        tried.add((inviter, invitee))
        there = world.registered.get(invitee)
        above = inviter
        while above in found.brought:
            above = found.brought[above]
        late = there is None or there - hour > WINDOW_H
        if reason:
            found.failures[reason] += 1
        elif inviter == invitee:
            found.failures["self_invitation"] += 1
        elif invitee in found.brought:
            found.failures["repeated" if again else "invited_by_another"] += 1
        elif there is not None and there < hour:
            found.failures["already_registered"] += 1
        elif late and hour + WINDOW_H > until:
            found.undecided += 1
        elif late:
            found.failures["repeated" if again else "not_registered"] += 1
        elif above == invitee:
            found.failures["cycle"] += 1
        else:
            found.brought[invitee] = inviter
    return found


def chain_of(brought: dict[str, str], name: str) -> tuple[str, int]:
    """Who began the chain, and how many steps ago."""
    steps = 0
    while name in brought:
        name, steps = brought[name], steps + 1
    return name, steps


def test_every_invitation_ends_as_the_reference_says(
    module_suite: Suite, token: str, world: Happened
) -> None:
    found, expected = ask(module_suite, token), counted(world)

    assert {row.name: row.invitations for row in found.failures.rows} == expected.failures
    assert expected.failures.keys() >= {
        *("self_invitation", "already_registered", "invited_by_another", "repeated"),
        *("not_registered", "cycle", "link expired", "blocked"),
    }
    assert found.figures.undecided == expected.undecided > 0
    assert found.figures.registrations == len(expected.brought)
    assert found.figures.invitees == len({b for _, a, b, _ in world.invitations if a != b})
    assert found.figures.unresolved_invitations == 0
    # The link that had expired is not what brought this one.
    assert expected.brought["late"] == "dan"


def test_chains_as_long_as_they_come(module_suite: Suite, token: str, world: Happened) -> None:
    found, brought = ask(module_suite, token), counted(world).brought
    chains = {name: chain_of(brought, name) for name in brought}
    depths = Counter(depth for _, depth in chains.values())
    sizes = Counter(start for start, _ in chains.values())
    people: Counter[int] = Counter()
    for size in sizes.values():
        people[size] += size

    assert {int(row.name): row.units for row in found.by_depth.rows} == depths
    assert max(depths) >= LONG
    assert {int(row.name): row.units for row in found.by_chain_size.rows} == people
    assert found.figures.chains == len(sizes)
    assert {row.name: row.units for row in found.by_referrer.rows} == Counter(brought.values())
    assert brought["b"] == "a"
    assert "a" not in brought


def test_a_code_is_of_the_first_who_claims_it(module_suite: Suite) -> None:
    code = unit_pb2.UnitId(type="code", id="SPRING")
    claims = [
        event_pb2.Event(
            event_id=f"claim-{owner}",
            event_time=stamp(hour),
            unit=code,
            identify=event_pb2.Identify(other_unit=user(owner)),
        )
        for hour, owner in enumerate(("first-owner", "second-owner"))
    ]
    log(module_suite, claims[:1])
    log(module_suite, claims[1:])
    invitees = [user(name) for name in ("eve", "fay", "first-owner")]
    events = [
        invitation(f"by-code-{number}", 3_000 + number, unit, {"by": "SPRING"})
        for number, unit in enumerate(invitees)
    ]
    events.append(invitation("by-none", 3_004, user("gus"), {"by": "NEVER-MADE"}))
    events += [
        event_pb2.Event(
            event_id=f"joined-{name}",
            event_time=stamp(3_010),
            unit=user(name),
            conversion=event_pb2.Conversion(event_name="joined"),
        )
        for name in ("eve", "fay", "gus")
    ]
    stub = rpc.ReferralServiceStub(module_suite.channel("attribution"))
    campaign = pb.ReferralCampaign(
        registration_event="joined", referrer_property="by", referrer_type="code"
    )
    found = stub.GetReferrals(
        pb.GetReferralsRequest(
            campaign=campaign, consistency_token=log(module_suite, events), min_units=1
        ),
        metadata=module_suite.metadata,
    )

    assert {row.name: row.units for row in found.by_referrer.rows} == {"first-owner": 2}
    assert {row.name: row.invitations for row in found.failures.rows} == {"self_invitation": 1}
    assert found.figures.unresolved_invitations == 1
    assert found.provenance.campaign.referrer_type == "code"
    assert found.provenance.identity_version
