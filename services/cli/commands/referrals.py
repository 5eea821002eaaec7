"""touchstone referrals: how a referral campaign did."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated, Any

import typer
from touchstone.attribution.v1 import referral_service_pb2 as pb
from touchstone.common.v1 import filter_pb2, identity_pb2

from services.cli.credit.filters import HELP as FILTER_HELP
from services.cli.credit.filters import read_filters
from services.cli.figures import count, share
from services.cli.importing.names import require_event_name, require_unit_type
from services.cli.options import Data, Output, PointInTime, parse_days, parse_time
from services.cli.rendering import Cell, Column, Format, View, columns, write
from services.cli.session import open_session
from services.cli.terminal import say

_COLUMNS = (
    *columns("of", "name"),
    *(Column(name, right=True) for name in ("units", "conversions")),
    Column("value", lambda cell: f"{cell:,.2f}", right=True),
    Column("invitations", right=True),
)
_COUNTED = (
    *("reached", "sharers", "shares", "invitees", "registrations", "undecided"),
    "unresolved_invitations",
)
_TABLES = ("by_depth", "by_chain_size", "by_referrer", "failures")


def referrals(
    *,
    registration_event: Annotated[str, typer.Option(help="The event of a registration.")],
    conversion_event: Annotated[
        str, typer.Option(help="What is counted of those brought. [default: the registration]")
    ] = "",
    share_event: Annotated[str, typer.Option(help="The event of sharing.")] = "share",
    activity_event: Annotated[
        list[str] | None, typer.Option(help="An event that shows activity. Repeat it.")
    ] = None,
    channel: Annotated[
        str, typer.Option(help="The channel of invitations. [default: any]", show_default=False)
    ] = "",
    shown_channel: Annotated[
        str, typer.Option(help="The channel of those who are shown the campaign.")
    ] = "",
    invitations_where: Annotated[
        list[str] | None, typer.Option(help=f"Only invitations with {FILTER_HELP}")
    ] = None,
    shown_where: Annotated[
        list[str] | None,
        typer.Option(help=f"Who is shown the campaign: touches with {FILTER_HELP}"),
    ] = None,
    referrer_property: Annotated[
        str, typer.Option(help="The property of an invitation that names the inviter.")
    ] = "referrer",
    referrer_type: Annotated[
        str,
        typer.Option(help="The type of these ids, code say. [default: the unit type]"),
    ] = "",
    reason_property: Annotated[
        str, typer.Option(help="The property that says why an invitation failed.")
    ] = "failure_reason",
    retention_day: Annotated[
        list[int] | None,
        typer.Option(
            min=1,
            max=366,
            help="A day after registration to tell retention of. Repeat it. [default: 1, 7, 30]",
        ),
    ] = None,
    max_referrers: Annotated[
        int, typer.Option(min=1, max=1000, help="The most referrers to list.")
    ] = 100,
    point_in_time: PointInTime = False,
    window_days: Annotated[float, typer.Option(help="Days that an invitation counts for.")] = 30,
    unit_type: Annotated[str, typer.Option(help="What invites and is invited.")] = "user",
    since: Annotated[
        str, typer.Option(help="Touches and shares from this time on.", show_default=False)
    ] = "",
    until: Annotated[
        str, typer.Option(help="Touches and shares before this time.", show_default=False)
    ] = "",
    min_units: Annotated[
        int, typer.Option(min=0, help="The least units of what is told of alone; 0: 50.")
    ] = 0,
    as_of: Annotated[str, typer.Option(help="The watermark of the cut to read.")] = "",
    data: Data = None,
    output: Output = Format.TABLE,
) -> None:
    """Say who shares, whom that brings, how chains grow, and why invitations fail.

    Example: touchstone referrals --registration-event signup --conversion-event purchase
    """
    for name in (registration_event, share_event, conversion_event, *(activity_event or [])):
        if name:
            require_event_name(name)
    require_unit_type(unit_type)
    campaign = pb.ReferralCampaign(
        registration_event=registration_event,
        conversion_event=conversion_event,
        share_event=share_event,
        activity_events=activity_event or [],
        referrer_property=referrer_property,
        reason_property=reason_property,
        invitation_filter=_filter(channel, invitations_where, "--invitations-where"),
        shown_filter=_filter(shown_channel, shown_where, "--shown-where"),
        unit_type=unit_type,
        referrer_type=referrer_type,
        start_time=parse_time(since, "--since") if since else None,
        end_time=parse_time(until, "--until") if until else None,
        window=parse_days(window_days, "--window-days"),
    )
    if point_in_time:
        campaign.stitching = identity_pb2.STITCHING_POINT_IN_TIME
    request = pb.GetReferralsRequest(
        campaign=campaign,
        as_of=as_of,
        min_units=min_units,
        retention_days=retention_day,
        max_referrers=max_referrers,
    )
    with open_session(data) as session:
        reply = session.referrals.GetReferrals(request)
    write(View(reply, _COLUMNS, [*rows(reply)], title="referrals"), output)
    for line in told(reply):
        say(line)


def _filter(channel: str, where: list[str] | None, option: str) -> filter_pb2.Filter | None:
    texts = [*([f"channel={json.dumps(channel)}"] if channel else []), *(where or [])]
    return read_filters(texts, option) if texts else None


def rows(reply: pb.GetReferralsResponse) -> Iterator[tuple[Cell, ...]]:
    """A row for each depth, size, referrer and reason, and for those told of together."""
    for of in _TABLES:
        table: pb.ReferralTable = getattr(reply, of)
        each = [(row.name, row) for row in table.rows]
        each += [
            (f"({kind})", getattr(table, kind))
            for kind in ("others", "suppressed")
            if table.HasField(kind)
        ]
        for name, row in each:
            yield of, name, row.units, row.conversions, row.value, row.invitations


def told(reply: pb.GetReferralsResponse) -> Iterator[str]:
    """The campaign as a whole, in lines; what is not told of is a dash."""
    found: Any = reply.figures
    for name in _COUNTED:
        yield f"{name}: {count(getattr(found, name)) if found.HasField(name) else '-'}"
    for name in ("share_rate", "registration_rate"):
        yield f"{name}: {share(getattr(found, name)) if found.HasField(name) else '-'}"
    for name in ("shares_per_user", "invitees_per_sharer", "growth_factor"):
        yield f"{name}: {getattr(found, name):.3g}" if found.HasField(name) else f"{name}: -"
    for day in reply.retention:
        yield f"retention on day {day.day}: {share(day.share) if day.HasField('share') else '-'}"
