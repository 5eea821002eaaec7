"""Referral campaigns between messages and the domain; every default is filled in here."""

from collections.abc import Callable

from touchstone.attribution.v1 import referral_service_pb2 as pb

from services.attribution.application.referral_ports import ReferralCampaign, ReferralQuery
from services.attribution.application.referrals import GetReferrals, Referrals
from services.attribution.domain.economics import Figure
from services.attribution.domain.paths.suppression import MIN_UNITS
from services.attribution.domain.referral_tables import ReferralRow, ReferralTable
from services.attribution.wire.times import (
    encode_duration,
    encode_instant,
    encode_time,
    microseconds,
)
from shared.errors import FieldViolation, invalid_fields
from shared.filters.filter import Filter
from shared.filters.rules import TOUCH_FIELDS, filter_faults
from shared.filters.wire import decode_filter, encode_filter
from shared.identity.wire import STITCHING_OF, stitching_of
from shared.version import VERSION

RETENTION_DAYS = (1, 7, 30)
MAX_REFERRERS = 100


def decode_referrals(
    request: pb.GetReferralsRequest, project: str, max_invitations: int
) -> GetReferrals:
    """What to report; INVALID_ARGUMENT where a filter or a time is none."""
    campaign = decode_campaign(request.campaign)
    return GetReferrals(
        query=ReferralQuery(project, campaign, max_invitations, request.as_of),
        min_units=request.min_units or MIN_UNITS,
        retention_days=tuple(sorted(request.retention_days)) or RETENTION_DAYS,
        max_referrers=request.max_referrers or MAX_REFERRERS,
    )


def decode_campaign(message: pb.ReferralCampaign) -> ReferralCampaign:
    """The campaign with its defaults."""
    default = ReferralCampaign(message.registration_event, message.registration_event)
    times = {
        name: microseconds(f"campaign.{name}", getattr(message, name))
        for name in ("window", "start_time", "end_time")
        if message.HasField(name)
    }
    faults: list[FieldViolation] = []
    invited = _filter(message, "invitation_filter", faults)
    shown = _filter(message, "shown_filter", faults)
    if faults:
        raise invalid_fields(faults)
    return ReferralCampaign(
        registration_event=message.registration_event,
        conversion_event=message.conversion_event or message.registration_event,
        unit_type=message.unit_type or default.unit_type,
        stitching=stitching_of(message.stitching),
        start_us=times.get("start_time"),
        end_us=times.get("end_time"),
        referrer_property=message.referrer_property or default.referrer_property,
        reason_property=message.reason_property or default.reason_property,
        invitation_filter=invited,
        shown_filter=shown,
        share_event=message.share_event or default.share_event,
        activity_events=tuple(sorted(message.activity_events)),
        window_us=times.get("window", default.window_us),
        referrer_type=message.referrer_type or message.unit_type or default.unit_type,
    )


def encode_campaign(campaign: ReferralCampaign) -> pb.ReferralCampaign:
    """The campaign with every default filled in."""
    message = pb.ReferralCampaign(
        registration_event=campaign.registration_event,
        conversion_event=campaign.conversion_event,
        share_event=campaign.share_event,
        activity_events=campaign.activity_events,
        referrer_property=campaign.referrer_property,
        reason_property=campaign.reason_property,
        unit_type=campaign.unit_type,
        stitching=STITCHING_OF[campaign.stitching],
        window=encode_duration(campaign.window_us),
        referrer_type=campaign.referrer_type or campaign.unit_type,
    )
    for name, time_us in (("start_time", campaign.start_us), ("end_time", campaign.end_us)):
        if time_us is not None:
            getattr(message, name).CopyFrom(encode_time(time_us))
    for name in ("invitation_filter", "shown_filter"):
        if (condition := getattr(campaign, name)) is not None:
            getattr(message, name).CopyFrom(encode_filter(condition))
    return message


def encode_referrals(command: GetReferrals, answer: Referrals) -> pb.GetReferralsResponse:
    """The reply to GetReferrals."""
    enough = _enough(command.min_units)
    until_us = answer.observed_until_us
    return pb.GetReferralsResponse(
        figures=_figures(answer, enough),
        retention=[
            pb.ReferralRetention(
                day=each.day,
                observed=each.observed if enough(each.observed) else None,
                share=_told(each.share, enough(each.observed)),
            )
            for each in answer.figures.retention
            if command.campaign.activity_events
        ],
        by_depth=_table(answer.tables.by_depth),
        by_chain_size=_table(answer.tables.by_size),
        by_referrer=_table(answer.tables.by_referrer),
        failures=_table(answer.tables.failures),
        min_units=command.min_units,
        provenance=pb.ReferralProvenance(
            campaign=encode_campaign(command.campaign),
            watermark=answer.watermark,
            watermark_time=encode_instant(answer.watermark_time),
            observed_until=None if until_us is None else encode_time(until_us),
            currencies=answer.currencies,
            engine_version=VERSION,
            identity_version=answer.identity_version,
        ),
    )


def _figures(answer: Referrals, enough: Callable[[int], bool]) -> pb.ReferralFigures:
    found = answer.figures
    reached, sharers = enough(found.reached), enough(found.sharers)
    invitees, brought = enough(found.invitees), enough(found.registrations)
    return pb.ReferralFigures(
        reached=found.reached if reached else None,
        sharers=found.sharers if sharers else None,
        shares=found.shares if sharers else None,
        invitees=found.invitees if invitees else None,
        registrations=found.registrations if brought else None,
        chains=found.chains.chains if brought else None,
        undecided=found.undecided if enough(found.undecided) else None,
        share_rate=_told(found.share_rate, reached and sharers),
        shares_per_user=_told(found.shares_per_user, sharers),
        invitees_per_sharer=_told(found.invitees_per_sharer, invitees and sharers),
        registration_rate=_told(found.registration_rate, invitees and brought),
        growth_factor=_told(found.growth_factor, reached and brought),
        unresolved_invitations=answer.unresolved if enough(answer.unresolved) else None,
    )


def _enough(min_units: int) -> Callable[[int], bool]:
    return lambda units: units == 0 or units >= min_units


def _told(figure: Figure, enough: bool) -> float | None:
    return figure if enough and isinstance(figure, float) else None


def _table(found: ReferralTable) -> pb.ReferralTable:
    return pb.ReferralTable(
        rows=[_row(each) for each in found.rows],
        others=None if found.others is None else _row(found.others),
        suppressed=None if found.suppressed is None else _row(found.suppressed),
        withheld_rows=found.withheld,
    )


def _row(found: ReferralRow) -> pb.ReferralRow:
    return pb.ReferralRow(
        name=found.name,
        units=found.units,
        conversions=found.conversions,
        value=found.value,
        invitations=found.invitations,
    )


def _filter(message: pb.ReferralCampaign, name: str, faults: list[FieldViolation]) -> Filter | None:
    if not message.HasField(name):  # type: ignore[arg-type]
        return None
    path = f"campaign.{name}"
    condition = decode_filter(getattr(message, name), path, faults)
    faults += filter_faults(condition, path, TOUCH_FIELDS)
    return condition
