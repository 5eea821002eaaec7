"""Referral campaigns: who shares, whom that brings, how chains grow, and why invitations fail."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from services.attribution.domain.economics import Figure, Undefined
from shared.errors import invalid

DAY_US = 86_400_000_000


class Failure(Enum):
    """Why an invitation brought nobody new."""

    SELF_INVITATION = "self_invitation"
    ALREADY_REGISTERED = "already_registered"
    INVITED_BY_ANOTHER = "invited_by_another"
    REPEATED = "repeated"
    CYCLE = "cycle"
    NOT_REGISTERED = "not_registered"


@dataclass(frozen=True, slots=True, order=True)
class Invitation:
    """One invitation that reached a person, at a time in microseconds since 1970-01-01 UTC.

    `reason` is why it failed as far as the events say (an expired link, say), empty otherwise.
    """

    time_us: int
    inviter: str
    invitee: str
    reason: str = ""

    def __post_init__(self) -> None:
        if not (self.inviter and self.invitee):
            raise invalid("invitation", (self.inviter, self.invitee), "an inviter and an invitee")


@dataclass(frozen=True, slots=True)
class Campaign:
    """What a referral campaign left in the log, all times in microseconds.

    `reached` are the users who were shown it, `shares` how often each shared. `registered` holds
    when each user registered, and `active` when users were active. Nothing after `watermark_us` is
    known. An invitation counts for a registration up to `window_us` later.
    """

    reached: frozenset[str]
    shares: Mapping[str, int]
    invitations: Sequence[Invitation]
    registered: Mapping[str, int]
    active: Mapping[str, Sequence[int]]
    watermark_us: int
    window_us: int = 30 * DAY_US

    def __post_init__(self) -> None:
        if self.window_us <= 0:
            raise invalid("window", self.window_us, "a duration above 0")
        for user, count in self.shares.items():
            if count < 0:
                raise invalid(f"shares.{user}", count, "at least 0")


@dataclass(frozen=True, slots=True)
class Chains:
    """The trees of invitations that led to a registration.

    A chain starts at a user whom nobody brought and has a depth of 1 for those brought directly;
    its size counts all whom it brought. `by_depth` counts people by their distance from the start,
    `by_size` chains by their size.
    """

    chains: int
    longest: int
    largest: int
    by_depth: tuple[tuple[int, int], ...]
    by_size: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Retention:
    """Invitees active on day `day` after registration, of those for whom that day is over."""

    day: int
    observed: int
    share: Figure


@dataclass(frozen=True, slots=True)
class ReferralReport:
    """How a referral campaign did.

    `share_rate` is sharers over reached users, `shares_per_user` shares over sharers,
    `registration_rate` invitees who registered over all invitees, `growth_factor` registrations
    that each reached user brought: above 1 a campaign grows on its own. `failures` count
    invitations, those the events give a reason for by that reason.
    """

    reached: int
    sharers: int
    shares: int
    invitees: int
    registrations: int
    share_rate: Figure
    shares_per_user: Figure
    invitees_per_sharer: Figure
    registration_rate: Figure
    growth_factor: Figure
    retention: tuple[Retention, ...]
    chains: Chains
    failures: tuple[tuple[str, int], ...]
    undecided: int


@dataclass(frozen=True, slots=True)
class Place:
    """How far from the start of its chain somebody is, and who started it."""

    depth: int
    start: str


@dataclass(frozen=True, slots=True)
class Judged:
    """What became of the invitations that were sent before the watermark.

    `brought` says by whom each registered invitee was brought, in the order of invitations.
    `places` is where these stand in their chains. `failed` holds the reason and the invitee of each
    invitation that brought nobody, `undecided` the invitees whose window is still open.
    """

    seen: tuple[Invitation, ...]
    brought: Mapping[str, str]
    places: Mapping[str, Place]
    failed: tuple[tuple[str, str], ...]
    undecided: tuple[str, ...]


def report(
    campaign: Campaign,
    retention_days: Sequence[int] = (1, 7, 30),
    judged: Judged | None = None,
) -> ReferralReport:
    """Return the figures of a campaign; they do not depend on the order of its rows.

    Invitations are judged in order of time, then of inviter and invitee. A registration belongs
    to the first invitation that could have brought it, and never to one that the events call
    failed. An invitation whose window is still open is `undecided`, not failed. Whoever shared
    without having been shown the campaign counts as reached.
    """
    if any(day < 1 for day in retention_days):
        raise invalid("retention_days", list(retention_days), "numbers of days above 0")
    judged = judged or judge(campaign)
    seen, brought = judged.seen, judged.brought
    sharers = {user for user, count in campaign.shares.items() if count}
    reached = campaign.reached | sharers
    shares = sum(campaign.shares.values())
    invitees = {i.invitee for i in seen if i.invitee != i.inviter}
    inviters = {i.inviter for i in seen if i.invitee != i.inviter}
    return ReferralReport(
        reached=len(reached),
        sharers=len(sharers),
        shares=shares,
        invitees=len(invitees),
        registrations=len(brought),
        share_rate=_ratio(len(sharers), len(reached)),
        shares_per_user=_ratio(shares, len(sharers)),
        invitees_per_sharer=_ratio(len(invitees), len(sharers | inviters)),
        registration_rate=_ratio(len(brought), len(invitees)),
        growth_factor=_ratio(len(brought), len(reached)),
        retention=tuple(_retention(brought, campaign, day) for day in sorted(set(retention_days))),
        chains=_chains(judged),
        failures=tuple(sorted(Counter(reason for reason, _ in judged.failed).items())),
        undecided=len(judged.undecided),
    )


def _ratio(count: int, of: int) -> Figure:
    return count / of if of else Undefined.ZERO_DENOMINATOR


def judge(campaign: Campaign) -> Judged:
    """Judge the invitations of a campaign in their order; see `report`."""
    seen = sorted(i for i in campaign.invitations if i.time_us < campaign.watermark_us)
    brought: dict[str, str] = {}
    forest = _Forest()
    failed: list[tuple[str, str]] = []
    tried: set[tuple[str, str]] = set()
    undecided: list[str] = []
    for one in seen:
        failure = _failure(one, campaign, brought, forest)
        again = (one.inviter, one.invitee) in tried
        tried.add((one.inviter, one.invitee))
        if one.reason:
            # What the events call failed brings nobody, whoever registers later.
            failed.append((one.reason, one.invitee))
        elif failure is None:
            brought[one.invitee] = one.inviter
            forest.join(one.invitee, one.inviter)
        elif failure is Failure.NOT_REGISTERED and _open(one, campaign):
            undecided.append(one.invitee)
        elif again and failure in (Failure.NOT_REGISTERED, Failure.INVITED_BY_ANOTHER):
            failed.append((Failure.REPEATED.value, one.invitee))
        else:
            failed.append((failure.value, one.invitee))
    return Judged(tuple(seen), brought, _places(brought), tuple(failed), tuple(undecided))


def _open(one: Invitation, campaign: Campaign) -> bool:
    """Whether the invitee may still register in time."""
    return one.time_us + campaign.window_us >= campaign.watermark_us


def _failure(
    one: Invitation, campaign: Campaign, brought: Mapping[str, str], forest: "_Forest"
) -> Failure | None:
    if one.inviter == one.invitee:
        return Failure.SELF_INVITATION
    registered = campaign.registered.get(one.invitee)
    if registered is not None and registered >= campaign.watermark_us:
        registered = None
    if one.invitee in brought:
        return Failure.INVITED_BY_ANOTHER
    if registered is not None and registered < one.time_us:
        return Failure.ALREADY_REGISTERED
    if registered is None or registered - one.time_us > campaign.window_us:
        return Failure.NOT_REGISTERED
    return Failure.CYCLE if forest.start(one.inviter) == one.invitee else None


class _Forest:
    """Who started the chain that a user is in; kept flat, so that long chains stay fast."""

    def __init__(self) -> None:
        self._above: dict[str, str] = {}

    def start(self, user: str) -> str:
        path = []
        while user in self._above:
            path.append(user)
            user = self._above[user]
        for passed in path:
            self._above[passed] = user
        return user

    def join(self, invitee: str, inviter: str) -> None:
        """Put the chain that starts at the invitee under that of the inviter."""
        self._above[invitee] = self.start(inviter)


def _places(brought: Mapping[str, str]) -> dict[str, Place]:
    found: dict[str, Place] = {}
    for user in brought:
        path = []
        at = user
        while at in brought and at not in found:
            path.append(at)
            at = brought[at]
        for passed in reversed(path):
            above = found.get(brought[passed], Place(0, brought[passed]))
            found[passed] = Place(above.depth + 1, above.start)
    return found


def _chains(judged: Judged) -> Chains:
    found = judged.places.values()
    sizes = Counter(place.start for place in found)
    depths = Counter(place.depth for place in found)
    return Chains(
        chains=len(sizes),
        longest=max(depths, default=0),
        largest=max(sizes.values(), default=0),
        by_depth=tuple(sorted(depths.items())),
        by_size=tuple(sorted(Counter(sizes.values()).items())),
    )


def _retention(brought: Mapping[str, str], campaign: Campaign, day: int) -> Retention:
    """Active in [registered + day, registered + day + 1) days, of those whose day is over."""
    observed = kept = 0
    for user in brought:
        begin = campaign.registered[user] + day * DAY_US
        if begin + DAY_US <= campaign.watermark_us:
            observed += 1
            kept += any(begin <= time < begin + DAY_US for time in campaign.active.get(user, ()))
    missing = Undefined.NOT_OBSERVED
    return Retention(day, observed, kept / observed if observed else missing)
