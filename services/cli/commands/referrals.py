"""touchstone referrals: how a referral campaign did."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import typer
from touchstone.attribution.v1 import referral_service_pb2 as pb

from services.cli.credit.filters import equals
from services.cli.figures import count, share
from services.cli.importing.names import require_event_name, require_unit_type
from services.cli.options import Data, Output, parse_days, parse_time
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
    referrer_property: Annotated[
        str, typer.Option(help="The property of an invitation that names the inviter.")
    ] = "referrer",
    referrer_type: Annotated[
        str,
        typer.Option(help="The type of these ids, code say. [default: the unit type]"),
    ] = "",
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
        invitation_filter=equals("channel", channel) if channel else None,
        shown_filter=equals("channel", shown_channel) if shown_channel else None,
        unit_type=unit_type,
        referrer_type=referrer_type,
        start_time=parse_time(since, "--since") if since else None,
        end_time=parse_time(until, "--until") if until else None,
        window=parse_days(window_days, "--window-days"),
    )
    request = pb.GetReferralsRequest(campaign=campaign, as_of=as_of, min_units=min_units)
    with open_session(data) as session:
        reply = session.referrals.GetReferrals(request)
    write(View(reply, _COLUMNS, [*rows(reply)], title="referrals"), output)
    for line in told(reply):
        say(line)


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
