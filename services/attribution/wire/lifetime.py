"""Lifetime value between messages and the domain."""

from touchstone.attribution.v1 import economics_service_pb2 as service_pb
from touchstone.attribution.v1 import lifetime_pb2 as pb

from services.attribution.application.lifetime import (
    AGES_DAYS,
    AcquiringModel,
    Lifetime,
    LifetimeConcern,
    LifetimeOfChannel,
    PredictLifetime,
)
from services.attribution.application.questions import Question
from services.attribution.domain.economics import Undefined
from services.attribution.domain.lifetime_check import HeldOutChannel, HoldOut
from services.attribution.domain.lifetime_prediction import Horizon
from services.attribution.domain.models import FirstTouch, LastNonDirect, LastTouch
from services.attribution.domain.purchases import PurchaseModel
from services.attribution.domain.spending import SpendingModel
from services.attribution.wire.economics import decode_earning, decode_money, encode_conflict
from services.attribution.wire.money import encode_figure
from services.attribution.wire.times import encode_time

HORIZON_DAYS = 365
ASSUMPTIONS = (
    (
        "While active, a unit buys at random at a rate of its own; rates are gamma distributed "
        "over units."
    ),
    (
        "After any purchase it stops for good with a probability of its own, beta distributed over "
        "units and independent of the rate. Seasons, campaigns and accounts that are closed "
        "without a purchase are outside of this."
    ),
    "How much a unit spends at a purchase does not depend on how often it buys.",
    "All channels share one model; they differ by what their units did.",
    "A unit that has not bought yet brings nothing.",
    "Standard errors are those of the purchase model alone.",
)
_MODELS: dict[int, AcquiringModel] = {
    service_pb.ACQUIRING_TOUCH_UNSPECIFIED: FirstTouch(),
    service_pb.ACQUIRING_TOUCH_FIRST: FirstTouch(),
    service_pb.ACQUIRING_TOUCH_LAST: LastTouch(),
    service_pb.ACQUIRING_TOUCH_LAST_NON_DIRECT: LastNonDirect(),
}
_CONCERNS = {
    LifetimeConcern.TOO_FEW_REPEATS: pb.LIFETIME_CONCERN_TOO_FEW_REPEATS,
    LifetimeConcern.AT_EDGE: pb.LIFETIME_CONCERN_AT_EDGE,
    LifetimeConcern.SPEND_DEPENDS_ON_COUNT: pb.LIFETIME_CONCERN_SPEND_DEPENDS_ON_COUNT,
    LifetimeConcern.MISSED_HOLD_OUT: pb.LIFETIME_CONCERN_MISSED_HOLD_OUT,
    LifetimeConcern.LONG_HORIZON: pb.LIFETIME_CONCERN_LONG_HORIZON,
}


def decode_prediction(
    request: service_pb.PredictLifetimeValueRequest, question: Question
) -> PredictLifetime:
    """What to predict."""
    return PredictLifetime(
        question=question,
        model=_MODELS[request.acquiring_touch],
        earning=decode_earning("earning", request.earning),
        rules=decode_money(request),
        horizon=Horizon(request.horizon_days or HORIZON_DAYS, request.annual_discount),
        ages_days=tuple(sorted(set(request.ages_days))) or AGES_DAYS,
        hold_out_days=request.hold_out_days,
    )


def encode_lifetime(found: Lifetime) -> service_pb.PredictLifetimeValueResponse:
    """The answer without its provenance."""
    purchases, spending, check = found.prediction.purchases, found.prediction.spending, found.check
    return service_pb.PredictLifetimeValueResponse(
        currency=found.currency,
        channels=[_channel(channel) for channel in found.channels],
        purchase_model=None if isinstance(purchases, Undefined) else _purchases(purchases),
        spending_model=None if isinstance(spending, Undefined) else _spending(spending),
        hold_out=None if isinstance(check, Undefined) else _check(check),
        assumptions=ASSUMPTIONS,
        warnings=[
            pb.LifetimeWarning(concern=_CONCERNS[concern], message=message)
            for concern, message in found.concerns
        ],
        observed_until=encode_time(found.observed_until_us),
        conflicts=[encode_conflict(one) for cost in found.costs for one in cost.conflicts],
    )


def _channel(channel: LifetimeOfChannel) -> pb.ChannelLifetime:
    realised, predicted = channel.realised, channel.predicted
    ages = zip(realised.ages_days, realised.units, realised.mean, realised.std_err, strict=True)
    return pb.ChannelLifetime(
        channel=predicted.channel,
        units=predicted.units,
        buyers=predicted.buyers,
        realised=encode_figure(predicted.realised),
        ages=[
            pb.RealisedAge(age_days=age, units=units, mean=encode_figure(mean, std_err))
            for age, units, mean, std_err in ages
        ],
        purchases=encode_figure(predicted.purchases, predicted.purchases_std_err),
        predicted=encode_figure(predicted.value, predicted.value_std_err),
        lifetime_value=encode_figure(predicted.lifetime_value),
        cost_per_unit=encode_figure(channel.cost_per_unit),
        value_over_cost=encode_figure(channel.value_over_cost),
    )


def _purchases(model: PurchaseModel) -> pb.PurchaseModelFit:
    return pb.PurchaseModelFit(
        rate_shape=model.rate_shape,
        rate_scale_days=model.rate_scale,
        stop_a=model.stop_a,
        stop_b=model.stop_b,
        log_likelihood=model.log_likelihood,
        at_edge=model.at_edge,
    )


def _spending(model: SpendingModel) -> pb.SpendingModelFit:
    return pb.SpendingModelFit(
        purchase_shape=model.purchase_shape,
        unit_shape=model.unit_shape,
        unit_scale=model.unit_scale,
        population_mean=encode_figure(model.population_mean),
        correlation=model.correlation,
        units=model.units,
        at_edge=model.at_edge,
    )


def _check(check: HoldOut) -> pb.HoldOutCheck:
    return pb.HoldOutCheck(
        days=check.days, rows=[_held_out(row) for row in (*check.channels, check.whole)]
    )


def _held_out(row: HeldOutChannel) -> pb.HoldOutRow:
    return pb.HoldOutRow(
        channel=row.channel,
        buyers=row.buyers,
        purchases_predicted=encode_figure(row.purchases_predicted),
        purchases_seen=row.purchases_seen,
        value_predicted=encode_figure(row.value_predicted),
        value_seen=row.value_seen,
        first_time_buyers=row.first_time_buyers,
    )
