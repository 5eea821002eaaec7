"""ReferralLog over the event tables."""

import datetime as dt
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

import ibis
import pyarrow as pa
import pyarrow.compute as pc
from ibis import ir

from services.attribution.application.referral_ports import ReferralEvents, ReferralQuery
from services.attribution.domain.referrals import Invitation
from shared.errors import limit_exceeded
from shared.identity.events import owned_events
from shared.identity.ownership import Ownership
from shared.identity.reader import IdentityReader
from shared.lake.cut import cut_of
from shared.lake.filters import matches, property_of
from shared.lake.snapshot import EventTables

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_ORDER = ["unit_id", "event_time", "event_id"]


class LakeReferralLog:
    """See ReferralLog."""

    def __init__(self, tables: EventTables, identities: IdentityReader) -> None:
        self._tables = tables
        self._identities = identities

    async def wait_until(self, at_least: str, timeout_s: float) -> None:
        """See JourneyLog."""
        await self._tables.wait_until(at_least, timeout_s)

    def read(self, query: ReferralQuery) -> ReferralEvents:
        """See ReferralLog."""
        campaign = query.campaign
        snapshot = self._tables.snapshot(query.project)
        cut = cut_of(snapshot.watermark, query.as_of)
        with snapshot.read() as now:
            tables = cut.tables(now)
            identity = self._identities.of(query.project, snapshot.watermark, tables, past=cut.past)
            owners = Ownership(campaign.unit_type, identity, campaign.stitching, merged=True)
            touches = _between(tables["touchpoints"], query)
            invited, unresolved = _invitations(touches, query, owners)
            shown = _shown(touches, query, owners)
            events = _events(tables["conversions"], query, owners)
        shares = _named(events, campaign.share_event)
        begin_us, end_us = campaign.start_us, campaign.end_us
        counted = [
            unit
            for unit, time, _ in shares
            if (begin_us is None or time >= begin_us) and (end_us is None or time < end_us)
        ]
        times = [*(each.time_us for each in invited), *pc.unique(events["time_us"]).to_pylist()]
        return ReferralEvents(
            invitations=tuple(invited),
            shown=shown,
            shares=Counter(counted),
            registered=_first(_named(events, campaign.registration_event)),
            bought=_grouped(_named(events, campaign.conversion_event)),
            active={
                unit: tuple(time for time, _ in rows)
                for unit, rows in _grouped(_named(events, *campaign.activity_events)).items()
            },
            newest_us=max(times, default=None),
            currencies=_currencies(events, campaign.conversion_event),
            watermark=cut.token,
            watermark_time=snapshot.watermark.commit_time if cut.token and not cut.past else None,
            identity_version=identity.version,
            unresolved=unresolved,
        )


def _between(touches: ir.Table, query: ReferralQuery) -> ir.Table:
    """The touches of the campaign's time, its days stated too: whole files are then left unread."""
    campaign, rows = query.campaign, touches
    if campaign.start_us is not None:
        start = _instant(campaign.start_us)
        rows = rows.filter(rows["day"] >= start.date(), rows["event_time"] >= start)
    if campaign.end_us is not None:
        end = _instant(campaign.end_us)
        rows = rows.filter(rows["day"] <= end.date(), rows["event_time"] < end)
    return rows


def _instant(time_us: int) -> dt.datetime:
    return _EPOCH + dt.timedelta(microseconds=time_us)


def _invitations(
    touches: ir.Table, query: ReferralQuery, owners: Ownership
) -> tuple[list[Invitation], int]:
    """The invitations between units that are known, and how many others there are."""
    campaign = query.campaign
    rows = touches
    if campaign.invitation_filter is not None:
        rows = rows.filter(matches(rows, campaign.invitation_filter))
    referrer = property_of(rows, campaign.referrer_property).unwrap_as("string")
    reason = property_of(rows, campaign.reason_property).unwrap_as("string")
    rows = rows.mutate(referrer=referrer.nullif(""), reason=reason.fill_null(""))
    rows = rows.filter(rows.referrer.notnull())
    found = rows.count().to_pyarrow().as_py()
    if found > query.max_invitations:
        raise limit_exceeded("invitations", found, query.max_invitations)
    invitees = _read(rows, ("event_time", "event_id", "reason"), owners)
    # The inviter's id is looked up as if the event were the inviter's, and said nothing else.
    theirs = rows.mutate(
        unit_type=ibis.literal(campaign.referrer_type or campaign.unit_type),
        unit_id=rows.referrer,
        linked_units=ibis.null(rows.linked_units.type()),
    )
    inviters = _read(theirs, ("event_time", "event_id"), owners)
    by_event: dict[str, str] = dict(_columns(inviters, "event_id", "unit_id"))
    known = [
        Invitation(time_us, by_event[event_id], invitee, reason)
        for time_us, event_id, invitee, reason in _columns(
            invitees, "time_us", "event_id", "unit_id", "reason"
        )
        if event_id in by_event
    ]
    return known, found - len(known)


def _shown(touches: ir.Table, query: ReferralQuery, owners: Ownership) -> frozenset[str]:
    condition = query.campaign.shown_filter
    if condition is None:
        return frozenset()
    rows = touches.filter(matches(touches, condition))
    found = _read(rows, ("event_time", "event_id"), owners)
    return frozenset(pc.unique(found["unit_id"]).to_pylist())


def _events(conversions: ir.Table, query: ReferralQuery, owners: Ownership) -> pa.Table:
    campaign = query.campaign
    names = {
        campaign.share_event,
        campaign.registration_event,
        campaign.conversion_event,
        *campaign.activity_events,
    }
    rows = conversions.filter(conversions.event_name.isin(sorted(names)))
    columns = ("event_time", "event_id", "event_name", "value", "currency")
    return _read(rows, columns, owners)


def _read(rows: ir.Table, columns: tuple[str, ...], owners: Ownership) -> pa.Table:
    """The rows of units in order, with their time in microseconds since 1970-01-01 UTC."""
    found = owned_events(rows, columns, owners).rows.order_by(_ORDER).to_pyarrow()
    times = found["event_time"].cast(pa.timestamp("us", tz="UTC")).cast(pa.int64())
    return found.append_column("time_us", times)


def _columns(rows: pa.Table, *names: str) -> Iterator[tuple[Any, ...]]:
    return zip(*(rows[name].to_pylist() for name in names), strict=True)


def _named(events: pa.Table, *names: str) -> list[tuple[str, int, float]]:
    """Unit, time and value of the events of these names, by unit and time."""
    rows = events.filter(pc.is_in(events["event_name"], value_set=pa.array(names, pa.string())))
    values = rows["value"].cast(pa.float64()).fill_null(0.0).to_pylist()
    return [*zip(rows["unit_id"].to_pylist(), rows["time_us"].to_pylist(), values, strict=True)]


def _first(rows: list[tuple[str, int, float]]) -> dict[str, int]:
    found: dict[str, int] = {}
    for unit, time, _ in rows:
        found.setdefault(unit, time)
    return found


def _grouped(
    rows: list[tuple[str, int, float]],
) -> dict[str, tuple[tuple[int, float], ...]]:
    found: defaultdict[str, list[tuple[int, float]]] = defaultdict(list)
    for unit, time, value in rows:
        found[unit].append((time, value))
    return {unit: tuple(times) for unit, times in found.items()}


def _currencies(events: pa.Table, name: str) -> tuple[str, ...]:
    rows = events.filter(pc.and_(pc.equal(events["event_name"], name), events["value"].is_valid()))
    return tuple(sorted(each for each in pc.unique(rows["currency"]).to_pylist() if each))
