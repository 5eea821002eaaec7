"""What referral reports need from outside."""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from services.attribution.application.definition import YEAR_1_US, YEAR_10000_US
from services.attribution.domain.referrals import DAY_US, Invitation
from shared.errors import invalid
from shared.filters.filter import Filter
from shared.identity.belonging import Stitching


@dataclass(frozen=True, slots=True)
class ReferralCampaign:
    """Which events are the invitations of a campaign, and which say what they brought.

    An invitation is a touch of the invitee that fulfils the filter and names its inviter, an id of
    `referrer_type` (empty: of the unit type), in the text property `referrer_property`; in
    `reason_property` it may say why it failed. `shown_filter` selects the touches of those who saw
    the campaign (None: nothing says). The events are conversion events. `start_us` (inclusive) and
    `end_us` (exclusive) bound the touches and shares; an invitation counts for a registration up to
    `window_us` later.
    """

    registration_event: str
    conversion_event: str
    unit_type: str = "user"
    stitching: Stitching = Stitching.RETROACTIVE
    start_us: int | None = None
    end_us: int | None = None
    referrer_property: str = "referrer"
    reason_property: str = "failure_reason"
    invitation_filter: Filter | None = None
    shown_filter: Filter | None = None
    share_event: str = "share"
    activity_events: tuple[str, ...] = ()
    window_us: int = 30 * DAY_US
    referrer_type: str = ""

    def __post_init__(self) -> None:
        for name, time_us in (("start_time", self.start_us), ("end_time", self.end_us)):
            if time_us is not None and not YEAR_1_US <= time_us < YEAR_10000_US:
                raise invalid(f"campaign.{name}", f"{time_us / 1e6} s", "years 1 to 9999")
        if self.start_us is not None and self.end_us is not None and self.start_us >= self.end_us:
            after = f"{(self.end_us - self.start_us) / 1e6} s after start_time"
            raise invalid("campaign.end_time", after, "a time later than start_time")


@dataclass(frozen=True, slots=True)
class ReferralQuery:
    """A campaign of a project, in the cut with this watermark; empty is the newest.

    RESOURCE_EXHAUSTED for more invitations than `max_invitations`.
    """

    project: str
    campaign: ReferralCampaign
    max_invitations: int
    as_of: str = ""


@dataclass(frozen=True, slots=True)
class ReferralEvents:
    """What one cut of the event log says of a campaign; times in microseconds.

    `registered` holds the first registration of each user, whatever the bounds of the campaign.
    `bought` and `active` hold times, and values of purchases, of all users. `newest_us` is the
    time of the newest of all these events, None when there is none. An invitation whose inviter or
    invitee is no unit of the type is left out, and counted in `unresolved`.
    """

    invitations: tuple[Invitation, ...]
    shown: frozenset[str]
    shares: Mapping[str, int]
    registered: Mapping[str, int]
    bought: Mapping[str, tuple[tuple[int, float], ...]]
    active: Mapping[str, tuple[int, ...]]
    newest_us: int | None
    currencies: tuple[str, ...]
    watermark: str
    watermark_time: dt.datetime | None
    identity_version: str
    unresolved: int = 0


class ReferralLog(Protocol):
    """Where the events of referral campaigns are read."""

    async def wait_until(self, at_least: str, timeout_s: float) -> None:
        """See JourneyLog."""
        ...

    def read(self, query: ReferralQuery) -> ReferralEvents:
        """The events of one cut that the campaign selects, of the query's project alone.

        Events belong to units as JourneyLog says, and so does the id that an invitation names,
        though not by what else the event says of the invitee. The
        answer does not depend on the order of arrival. A project without events gives nothing.
        """
        ...
