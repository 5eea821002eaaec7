"""Corrected results as messages."""

from touchstone.attribution.v1 import attribution_pb2
from touchstone.attribution.v1 import calibration_pb2 as pb

from services.attribution.application.calibrate_report import (
    Basis,
    BelievedKappa,
    CalibratedChannel,
    CalibratedResult,
    attributed_ratios,
)
from services.attribution.application.calibration_measured import MeasuredKappa, Together
from services.attribution.domain.conflicts import Finding
from services.attribution.domain.economics import Figure, Undefined
from services.attribution.domain.lift import Measured
from services.attribution.wire.calibration_tests import outcome_of
from services.attribution.wire.money import encode_figure

_BASES = {
    Basis.TESTED: pb.KAPPA_BASIS_TESTED,
    Basis.POOLED: pb.KAPPA_BASIS_POOLED,
    Basis.OF_CONVERSIONS: pb.KAPPA_BASIS_OF_CONVERSIONS,
}


def encode_result(
    result: CalibratedResult, said: attribution_pb2.ModelResult
) -> pb.CalibratedResult:
    """One result; `said` is what the report says."""
    prior = result.calibration.prior
    return pb.CalibratedResult(
        model=said.model,
        model_name=said.model_name,
        channels=[_channel(channel) for channel in result.channels],
        tests=[_tested(test) for test in result.tests],
        findings=[encode_finding(finding) for finding in result.findings],
        prior_std_dev=prior.std_dev,
        prior_learned_from=prior.tested,
        joint=[_joint(each) for each in result.together],
    )


def _joint(found: Together) -> pb.JointKappa:
    jointly = found.jointly
    test = jointly.joint.test
    return pb.JointKappa(
        links=jointly.measured.experiments,
        channels=[target.channel for target in jointly.joint.targets],
        outcome=outcome_of(by_value=found.by_value),
        incremental=test.incremental.value,
        incremental_std_err=test.incremental.std_err,
        credited=test.outcome.attributed.value,
        kappa=_measured(jointly.measured),
        report_incremental=encode_range(found.incremental.value, found.low, found.high),
    )


def encode_finding(finding: Finding) -> pb.CalibrationFinding:
    """One finding."""
    kind = pb.CalibrationFindingKind.Value(f"CALIBRATION_FINDING_KIND_{finding.conflict.name}")
    return pb.CalibrationFinding(
        kind=kind,
        channel="" if finding.target is None else finding.target.channel,
        links=finding.experiments,
        message=finding.message,
        left_out=finding.left_out,
    )


def _channel(channel: CalibratedChannel) -> pb.CalibratedChannel:
    said = channel.reported
    cost_per_conversion, return_on_spend = attributed_ratios(said)
    message = pb.CalibratedChannel(
        channel=said.channel,
        conversions=said.conversions,
        value=said.value,
        cost=encode_figure(said.cost),
        cost_per_conversion=encode_figure(cost_per_conversion),
        return_on_spend=encode_figure(return_on_spend),
    )
    if channel.kappa is not None and channel.conversions is not None:
        row = channel.conversions
        message.kappa.CopyFrom(encode_kappa(channel.kappa))
        message.incremental_conversions.CopyFrom(
            encode_range(row.incremental.value, row.low, row.high)
        )
        message.cost_per_incremental_conversion.CopyFrom(
            encode_range(row.cost_per_incremental, row.cost_low, row.cost_high)
        )
    if channel.value_kappa is not None and channel.value is not None:
        row = channel.value
        message.value_kappa.CopyFrom(encode_kappa(channel.value_kappa))
        message.incremental_value.CopyFrom(encode_range(row.incremental.value, row.low, row.high))
    back = channel.return_on_spend
    if back is not None:
        message.incremental_return_on_spend.CopyFrom(encode_range(back.value, back.low, back.high))
    return message


def encode_range(value: Figure, low: Figure, high: Figure) -> pb.MoneyRange:
    """A figure with the ends of its interval."""
    return pb.MoneyRange(
        value=encode_figure(value), low=encode_figure(low), high=encode_figure(high)
    )


def encode_kappa(believed: BelievedKappa) -> pb.Kappa:
    """What is believed of kappa."""
    kappa = believed.kappa
    tested = kappa.tested
    return pb.Kappa(
        basis=_BASES[believed.basis],
        mean=kappa.mean,
        std_dev=kappa.std_dev,
        low=kappa.low,
        high=kappa.high,
        tested=None if tested is None else tested.value,
        tested_std_err=None if tested is None else tested.std_err,
        spread=kappa.spread,
        weight=kappa.weight,
        links=sorted({name for each in kappa.measured for name in each.experiments}),
    )


def _measured(measured: Measured | Undefined) -> pb.MoneyRange:
    if isinstance(measured, Undefined):
        return encode_range(measured, measured, measured)
    ends = (
        Undefined.NOT_IDENTIFIED if end is None else end for end in (measured.low, measured.high)
    )
    return encode_range(measured.kappa.value, *ends)


def _tested(tested: MeasuredKappa) -> pb.TestedKappa:
    incremental = tested.test.incremental
    return pb.TestedKappa(
        link=tested.link.name,
        channel=tested.link.channel,
        outcome=outcome_of(by_value=tested.by_value),
        incremental=incremental.value,
        incremental_std_err=incremental.std_err,
        credited_on=tested.credited_on,
        credited_off=tested.credited_off,
        kappa=_measured(tested.measured),
        together=tested.together,
    )
