"""From answers to replies."""

import datetime as dt
from collections.abc import Iterator
from typing import Protocol

from touchstone.attribution.v1 import attribution_pb2 as pb
from touchstone.attribution.v1 import attribution_service_pb2 as service_pb
from touchstone.common.v1 import unit_pb2

from services.attribution.application.definition import JourneyDefinition
from services.attribution.application.get_attribution import Attribution
from services.attribution.application.reporting import OrderTaken
from services.attribution.application.stream_credits import CreditPage, Credits
from services.attribution.domain.journey_statistics import JourneyStatistics
from services.attribution.domain.models import Model
from services.attribution.domain.reported import ReportedChannel, ReportedTable
from services.attribution.domain.sufficiency import Concern, DataWarning
from services.attribution.wire.definition import encode_definition
from services.attribution.wire.models import encode_model
from services.attribution.wire.reporting import (
    encode_bootstrap,
    encode_fits,
    encode_held_out,
    encode_hidden,
    encode_order,
    encode_replicates,
    encode_spans,
)
from services.attribution.wire.times import encode_instant, encode_time
from shared.version import VERSION

_WARNINGS = {
    Concern.FEW_CONVERSIONS: pb.WARNING_KIND_FEW_CONVERSIONS,
    Concern.FEW_TOUCHES: pb.WARNING_KIND_FEW_TOUCHES,
    Concern.RARE_CHANNEL: pb.WARNING_KIND_RARE_CHANNEL,
    Concern.NEVER_CONVERTS: pb.WARNING_KIND_NEVER_CONVERTS,
    Concern.NO_NON_CONVERTING: pb.WARNING_KIND_NO_NON_CONVERTING,
    Concern.MIXED_CURRENCIES: pb.WARNING_KIND_MIXED_CURRENCIES,
    Concern.JOURNEYS_TRUNCATED: pb.WARNING_KIND_JOURNEYS_TRUNCATED,
    Concern.MANY_STATES: pb.WARNING_KIND_MANY_STATES,
    Concern.CHANNELS_SUPPRESSED: pb.WARNING_KIND_CHANNELS_SUPPRESSED,
    Concern.NO_INTERVAL: pb.WARNING_KIND_NO_INTERVAL,
    Concern.WIDE_INTERVAL: pb.WARNING_KIND_WIDE_INTERVAL,
    Concern.FEW_HELD_OUT: pb.WARNING_KIND_FEW_HELD_OUT,
    Concern.LEARNED_NOTHING: pb.WARNING_KIND_LEARNED_NOTHING,
    Concern.MISCALIBRATED: pb.WARNING_KIND_MISCALIBRATED,
    Concern.UNSEEN_NAME: pb.WARNING_KIND_UNSEEN_NAME,
}


def encode_attribution(
    definition: JourneyDefinition, answer: Attribution
) -> service_pb.GetAttributionResponse:
    """The reply to GetAttribution."""
    return service_pb.GetAttributionResponse(
        summary=_summary(answer.statistics),
        activity=_activity(answer),
        results=[_result(told, answer.orders) for told in answer.told],
        warnings=[_warning(warning) for warning in answer.warnings],
        fits=encode_fits(answer),
        suppressed_channels=encode_hidden(answer.hidden),
        bootstrap=encode_bootstrap(answer.reporting.resampling),
        held_out=encode_held_out(answer.reporting.held_out),
        provenance=encode_provenance(definition, answer),
    )


def encode_evaluation(answer: Attribution) -> service_pb.EvaluatePathsResponse:
    """The reply to EvaluatePaths."""
    return service_pb.EvaluatePathsResponse(
        summary=_summary(answer.statistics),
        activity=_activity(answer),
        results=[_result(told, answer.orders) for told in answer.told],
        warnings=[_warning(warning) for warning in answer.warnings],
        fits=encode_fits(answer),
        suppressed_channels=encode_hidden(answer.hidden),
        bootstrap=encode_bootstrap(answer.reporting.resampling),
        held_out=encode_held_out(answer.reporting.held_out),
    )


def encode_credits(
    definition: JourneyDefinition, credits_: Credits
) -> Iterator[service_pb.StreamCreditsResponse]:
    """The replies of StreamCredits: the pages, then the summary."""
    for page in credits_.pages:
        yield service_pb.StreamCreditsResponse(
            credits=[
                encode_credit(page, row, definition.unit_type, credits_.identity_version)
                for row in range(len(page.weights))
            ]
        )
    yield service_pb.StreamCreditsResponse(
        summary=service_pb.CreditStreamSummary(
            credits=credits_.count,
            conversions=credits_.conversions,
            value=credits_.value,
            provenance=encode_provenance(definition, credits_),
        )
    )


def _summary(statistics: JourneyStatistics) -> pb.JourneySummary:
    counts = statistics.counts
    return pb.JourneySummary(
        journeys=counts.journeys,
        converting_journeys=counts.converting,
        non_converting_journeys=counts.non_converting,
        conversions_without_touch=counts.direct,
        value=counts.value,
        value_without_touch=counts.direct_value,
        touches=int(statistics.by_channel.touches.sum()),
        units=counts.units,
    )


def _activity(answer: Attribution) -> list[pb.ChannelActivity]:
    counts = answer.statistics.by_channel
    columns = zip(
        answer.statistics.channels,
        counts.touches.tolist(),
        counts.journeys.tolist(),
        counts.converting.tolist(),
        counts.costs.tolist(),
        counts.without_cost.tolist(),
        answer.hidden.units,
        answer.hidden.hidden.tolist(),
        strict=True,
    )
    return [
        pb.ChannelActivity(
            channel=channel,
            touches=touches,
            journeys=journeys,
            converting_journeys=converting,
            cost=cost,
            touches_without_cost=without_cost,
            units=units,
        )
        for channel, touches, journeys, converting, cost, without_cost, units, few in columns
        if not few
    ]


def _result(told: ReportedTable, orders: dict[Model, OrderTaken]) -> pb.ModelResult:
    table = told.table
    return pb.ModelResult(
        model=encode_model(table.model),
        model_name=table.output.value,
        channels=[_channel(channel) for channel in told.channels],
        additive=table.additive,
        uncredited=table.uncredited,
        suppressed=None if told.suppressed is None else _channel(told.suppressed),
        replicates=encode_replicates(told.resampled),
        order_selection=encode_order(orders.get(table.model)),
    )


def _channel(told: ReportedChannel) -> pb.ChannelCredit:
    totals = told.totals
    return pb.ChannelCredit(
        channel=totals.channel,
        conversions=totals.conversions,
        value=totals.value,
        share=totals.share,
        cost_per_conversion=totals.cost_per_conversion,
        return_on_spend=totals.return_on_spend,
        removal_effect=totals.removal_effect,
        intervals=encode_spans(told.spans),
        positions=[
            pb.PositionCredit(conversions=conversions, value=value)
            for conversions, value in totals.positions
        ],
        sampling_std_err=totals.sampling_std_err,
    )


def _warning(warning: DataWarning) -> pb.Warning:
    return pb.Warning(
        kind=_WARNINGS[warning.concern],
        channel=warning.channel,
        message=warning.message,
        model_name=warning.model,
    )


def encode_credit(page: CreditPage, row: int, unit_type: str, identity_version: str) -> pb.Credit:
    """The credit in a row of the page."""
    return pb.Credit(
        conversion_id=page.conversion_ids[row],
        touch_id=page.touch_ids[row],
        unit=unit_pb2.UnitId(type=unit_type, id=page.unit_ids[row]),
        channel=page.channels[row],
        touch_time=encode_time(page.touch_times[row]),
        conversion_time=encode_time(page.conversion_times[row]),
        weight=page.weights[row],
        value=page.values[row],
        identity_version=identity_version,
    )


class OfCut(Protocol):
    """What was computed from one cut of the event log."""

    @property
    def watermark(self) -> str:
        """The cut."""

    @property
    def watermark_time(self) -> dt.datetime | None:
        """When it was committed, as far as that is known."""

    @property
    def identity_version(self) -> str:
        """The policy and the links between ids that were used."""


def encode_provenance(definition: JourneyDefinition, answer: OfCut) -> service_pb.Provenance:
    """What an answer is a function of."""
    return service_pb.Provenance(
        journeys=encode_definition(definition),
        watermark=answer.watermark,
        watermark_time=encode_instant(answer.watermark_time),
        engine_version=VERSION,
        identity_version=answer.identity_version,
    )
