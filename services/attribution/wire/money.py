"""Amounts and ratios, or why there are none."""

import math

from touchstone.attribution.v1 import money_pb2 as pb

from services.attribution.domain.economics import Figure, Undefined
from services.attribution.domain.lift import Estimate

_UNDEFINED = {
    Undefined.COST_UNKNOWN: pb.MONEY_UNDEFINED_COST_UNKNOWN,
    Undefined.ZERO_COST: pb.MONEY_UNDEFINED_ZERO_COST,
    Undefined.MIXED_CURRENCIES: pb.MONEY_UNDEFINED_MIXED_CURRENCIES,
    Undefined.NO_CONVERSIONS: pb.MONEY_UNDEFINED_NO_CONVERSIONS,
    Undefined.NOTHING_INCREMENTAL: pb.MONEY_UNDEFINED_NOTHING_INCREMENTAL,
    Undefined.NOT_PAID_BACK: pb.MONEY_UNDEFINED_NOT_PAID_BACK,
    Undefined.NOT_OBSERVED: pb.MONEY_UNDEFINED_NOT_OBSERVED,
    Undefined.NOT_IDENTIFIED: pb.MONEY_UNDEFINED_NOT_IDENTIFIED,
    Undefined.NOT_GIVEN: pb.MONEY_UNDEFINED_NOT_GIVEN,
    Undefined.ZERO_DENOMINATOR: pb.MONEY_UNDEFINED_ZERO_DENOMINATOR,
}


def encode_figure(figure: Figure, std_err: Figure | None = None) -> pb.MoneyFigure:
    """The figure, with its standard error where that is known.

    Infinity is never sent: it is said that the figure has no bound. Nor is what is no number.
    """
    if isinstance(figure, Undefined):
        return pb.MoneyFigure(undefined=_UNDEFINED[figure])
    if math.isnan(figure):
        return pb.MoneyFigure(undefined=pb.MONEY_UNDEFINED_NOT_IDENTIFIED)
    if math.isinf(figure):
        return pb.MoneyFigure(undefined=pb.MONEY_UNDEFINED_UNBOUNDED)
    known = None if std_err is None or isinstance(std_err, Undefined) else std_err
    return pb.MoneyFigure(value=figure, std_err=known)


def encode_estimate(estimate: Estimate | Undefined) -> pb.MoneyFigure:
    """The estimate with its standard error, or why there is none."""
    if isinstance(estimate, Undefined):
        return encode_figure(estimate)
    return encode_figure(estimate.value, estimate.std_err)
