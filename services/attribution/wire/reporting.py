"""Intervals, fits and channels with few units, between messages and the domain."""

from collections.abc import Sequence

from touchstone.attribution.v1 import attribution_pb2 as pb
from touchstone.attribution.v1 import attribution_service_pb2 as service_pb
from touchstone.attribution.v1 import held_out_pb2, uncertainty_pb2

from services.attribution.application.get_attribution import Attribution
from services.attribution.application.reporting import HeldOutUnits, OrderTaken, Reporting
from services.attribution.domain.bootstrap.models import Resampled
from services.attribution.domain.bootstrap.weights import Resampling
from services.attribution.domain.held_out.models import ModelFit
from services.attribution.domain.reported import (
    ChannelSpans,
    HiddenChannels,
    ReportedTable,
    Span,
)


def decode_reporting(
    request: service_pb.GetAttributionRequest | service_pb.EvaluatePathsRequest,
) -> Reporting:
    """What a call asks for beside figures: nothing that it does not name."""
    resampling = decode_bootstrap(request.bootstrap) if request.HasField("bootstrap") else None
    held_out = decode_held_out(request.held_out) if request.HasField("held_out") else None
    return Reporting(resampling, held_out, request.min_units or 1)


def decode_bootstrap(message: uncertainty_pb2.Bootstrap) -> Resampling | None:
    """How units are drawn, with defaults; None where nobody is."""
    if message.off:
        return None
    default = Resampling()
    return Resampling(
        message.replicates or default.replicates, message.seed, message.level or default.level
    )


def encode_bootstrap(found: Resampling | None) -> uncertainty_pb2.Bootstrap:
    """How units were drawn, with every default filled in."""
    if found is None:
        return uncertainty_pb2.Bootstrap(off=True)
    return uncertainty_pb2.Bootstrap(
        replicates=found.replicates, seed=found.seed, level=found.level
    )


def decode_held_out(message: held_out_pb2.HeldOut) -> HeldOutUnits | None:
    """Who is held out, with defaults; None where nobody is."""
    if message.off:
        return None
    return HeldOutUnits(message.part or HeldOutUnits().part, message.seed)


def encode_held_out(found: HeldOutUnits | None) -> held_out_pb2.HeldOut:
    """Who was held out, with every default filled in."""
    if found is None:
        return held_out_pb2.HeldOut(off=True)
    return held_out_pb2.HeldOut(part=found.part, seed=found.seed)


def encode_spans(spans: ChannelSpans | None) -> uncertainty_pb2.ChannelIntervals | None:
    """The intervals of what a channel gets."""
    if spans is None:
        return None
    return uncertainty_pb2.ChannelIntervals(
        conversions=_interval(spans.conversions),
        value=_interval(spans.value),
        share=_interval(spans.share),
        cost_per_conversion=_interval(spans.cost_per_conversion),
        return_on_spend=_interval(spans.return_on_spend),
        removal_effect=_interval(spans.removal_effect),
        conversions_std_err=spans.conversions_std_err,
    )


def encode_replicates(found: Resampled | None) -> uncertainty_pb2.ResultReplicates | None:
    """How the intervals of a result came about."""
    if found is None:
        return None
    return uncertainty_pb2.ResultReplicates(
        replicates=found.replicates, defined=found.defined, why_none=found.why_none
    )


def encode_order(taken: OrderTaken | None) -> held_out_pb2.OrderSelection | None:
    """How the order of a Markov model was chosen."""
    if taken is None:
        return None
    return held_out_pb2.OrderSelection(
        orders=[
            held_out_pb2.OrderFit(
                order=fit.order,
                states=fit.states,
                auc=fit.auc,
                penalised_auc=fit.penalised_auc,
                log_loss=fit.log_loss,
                unseen=fit.unseen,
            )
            for fit in taken.choice.fits
        ],
        chosen=taken.choice.order,
        why_fewer=taken.why_fewer,
    )


def encode_hidden(hidden: HiddenChannels) -> pb.SuppressedChannels:
    """The channels that are not told of alone."""
    message = pb.SuppressedChannels(
        min_units=hidden.min_units, channels=int(hidden.hidden.sum()), withheld=hidden.withheld
    )
    if hidden.together is not None:
        counts = hidden.together
        message.activity.CopyFrom(
            pb.ChannelActivity(
                touches=int(counts.touches[0]),
                journeys=int(counts.journeys[0]),
                converting_journeys=int(counts.converting[0]),
                cost=float(counts.costs[0]),
                touches_without_cost=int(counts.without_cost[0]),
                units=hidden.units_together,
            )
        )
    return message


def encode_fits(answer: Attribution) -> list[held_out_pb2.ModelFit]:
    """How well the models predict, in their order."""
    return [_fit(fit, answer.told) for fit in answer.fits]


def _fit(found: ModelFit, told: Sequence[ReportedTable]) -> held_out_pb2.ModelFit:
    indexes = [number for number, each in enumerate(told) if each.table.model == found.model]
    message = held_out_pb2.ModelFit(
        model_name=found.name, result_indexes=indexes, why_none=found.why_none
    )
    if found.fit is None:
        return message
    fit = found.fit
    message.MergeFrom(
        held_out_pb2.ModelFit(
            journeys=fit.journeys,
            conversions=fit.conversions,
            auc=fit.auc,
            log_loss=fit.log_loss,
            base_log_loss=fit.base_log_loss,
            certain=fit.certain,
            calibration_slope=fit.slope,
            calibration_intercept=fit.intercept,
            calibration_error=fit.calibration_error,
            bins=[
                held_out_pb2.CalibrationBin(
                    journeys=each.journeys, predicted=each.predicted, observed=each.observed
                )
                for each in fit.bins
            ],
        )
    )
    return message


def _interval(span: Span | None) -> uncertainty_pb2.Interval | None:
    return None if span is None else uncertainty_pb2.Interval(low=span[0], high=span[1])
