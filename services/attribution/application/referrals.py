"""How a referral campaign did: who shares, whom that brings, and why invitations fail."""

import datetime as dt
from dataclasses import dataclass

from services.attribution.application.referral_ports import (
    ReferralCampaign,
    ReferralEvents,
    ReferralLog,
    ReferralQuery,
)
from services.attribution.domain.referral_tables import (
    Purchases,
    ReferralTables,
    referral_tables,
)
from services.attribution.domain.referrals import Campaign, ReferralReport, judge, report


@dataclass(frozen=True, slots=True)
class GetReferrals:
    """A campaign, the least number of units of a figure, and how many referrers to list."""

    query: ReferralQuery
    min_units: int
    retention_days: tuple[int, ...]
    max_referrers: int

    @property
    def campaign(self) -> ReferralCampaign:
        """The campaign."""
        return self.query.campaign


@dataclass(frozen=True, slots=True)
class Referrals:
    """The figures and tables; nothing after `observed_until_us` is known, None without events.

    `unresolved` counts the invitations that name nobody who is known.
    """

    figures: ReferralReport
    tables: ReferralTables
    observed_until_us: int | None
    currencies: tuple[str, ...]
    watermark: str
    watermark_time: dt.datetime | None
    identity_version: str
    unresolved: int


def get_referrals(command: GetReferrals, log: ReferralLog) -> Referrals:
    """Report on the campaign. Values of several currencies are added as if they were one."""
    events = log.read(command.query)
    until_us = None if events.newest_us is None else events.newest_us + 1
    campaign = Campaign(
        reached=events.shown,
        shares=events.shares,
        invitations=events.invitations,
        registered=events.registered,
        active=events.active,
        watermark_us=until_us or 0,
        window_us=command.campaign.window_us,
    )
    judged = judge(campaign)
    tables = referral_tables(judged, _purchases(events), command.min_units, command.max_referrers)
    return Referrals(
        figures=report(campaign, command.retention_days, judged),
        tables=tables,
        observed_until_us=until_us,
        currencies=events.currencies,
        watermark=events.watermark,
        watermark_time=events.watermark_time,
        identity_version=events.identity_version,
        unresolved=events.unresolved,
    )


def _purchases(events: ReferralEvents) -> dict[str, Purchases]:
    """What each registered user bought from the registration on."""
    found = {}
    for unit, bought in events.bought.items():
        since = events.registered.get(unit)
        if since is not None:
            values = [value for time, value in bought if time >= since]
            found[unit] = Purchases(len(values), sum(values))
    return found
