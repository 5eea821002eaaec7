"""What links gave, as messages."""

from touchstone.attribution.v1 import calibration_pb2 as pb

from services.attribution.application.calibration_ports import LiftProvenance
from services.attribution.application.calibration_tests import LinkedTest
from services.attribution.wire.times import encode_time


def encode_test(test: LinkedTest, link: pb.CalibrationLink) -> pb.LinkedTest:
    """What one link gave, as far as it is there."""
    message = pb.LinkedTest(link=link, used=test.used)
    lift, credited = test.lift, test.credited
    if lift is not None:
        message.outcome = outcome_of(by_value=lift.events.by_value)
        message.difference, message.std_err = lift.difference.value, lift.difference.std_err
        message.units_on, message.units_off = lift.units_on, lift.units_off
        message.provenance.CopyFrom(encode_lift_provenance(lift.provenance))
    if credited is not None:
        message.credited_units_on = credited.units_on
        message.credited_units_off = credited.units_off
        if credited.cell is not None:
            message.start_time.CopyFrom(encode_time(credited.cell.start_us))
            message.end_time.CopyFrom(encode_time(credited.cell.end_us - 1))
    return message


def outcome_of(*, by_value: bool) -> pb.TestedOutcome.ValueType:
    """What was measured."""
    return pb.TESTED_OUTCOME_VALUE if by_value else pb.TESTED_OUTCOME_CONVERSIONS


def encode_lift_provenance(source: LiftProvenance) -> pb.LiftProvenance:
    """What a lift is a function of."""
    return pb.LiftProvenance(
        watermark=source.watermark,
        config_versions=source.config_versions,
        plan_version=source.plan_version,
        metric_version=source.metric_version,
        engine_version=source.engine_version,
        identity_version=source.identity_version,
        question_digest=source.question_digest,
        inputs_digest=source.inputs_digest,
    )
