"""Links between messages and the domain."""

from touchstone.attribution.v1 import attribution_pb2
from touchstone.attribution.v1 import calibration_pb2 as pb

from services.attribution.application.calibration_links import (
    CalibrationLink,
    SwitchedGroup,
    link_name,
)
from services.attribution.application.calibration_ports import StoredLink
from services.attribution.wire.definition import decode_credited
from shared.errors import invalid
from shared.resource_names import require_id


def document_of(message: pb.CalibrationLink) -> bytes:
    """What is kept of a link: all that its owner decides."""
    kept = pb.CalibrationLink()
    kept.CopyFrom(message)
    kept.ClearField("name")
    kept.ClearField("create_time")
    return kept.SerializeToString(deterministic=True)


def encode_link(stored: StoredLink) -> pb.CalibrationLink:
    """The link as it was created."""
    link = pb.CalibrationLink.FromString(stored.document)
    link.name = link_name(stored.project, stored.link_id)
    link.create_time.FromDatetime(stored.create_time)
    return link


def decode_stored(stored: StoredLink) -> CalibrationLink:
    """The link as calibration uses it."""
    message = pb.CalibrationLink.FromString(stored.document)
    return decode_link(message, stored.project, stored.link_id)


def decode_link(message: pb.CalibrationLink, project: str, link_id: str) -> CalibrationLink:
    """The link; INVALID_ARGUMENT for groups that are named twice, NOT_FOUND for an experiment or
    a metric of another project.
    """
    by_control_group = message.WhichOneof("source") == "control_group"
    if by_control_group:
        group = message.control_group
        control = _variant(group.control, project)
        treatment = tuple(_variant(wave, project) for wave in group.waves)
    else:
        comparison = message.experiment_comparison
        experiment = require_id(comparison.experiment, project, "experiments")
        control = SwitchedGroup(experiment, comparison.control_variant)
        treatment = (SwitchedGroup(experiment, comparison.treatment_variant),)
    met = {control}
    for index, wave in enumerate(treatment):
        if wave in met:
            allowed = "a group that is neither the control nor another wave"
            raise invalid(f"control_group.waves[{index}]", wave.variant, allowed)
        met.add(wave)
    return CalibrationLink(
        project=project,
        link_id=link_id,
        channel=message.channel,
        metric_id=require_id(message.metric, project, "metrics"),
        treatment=treatment,
        control=control,
        treatment_on=message.treatment == pb.CHANNEL_SWITCH_ON,
        by_control_group=by_control_group,
        credited=decode_credited(_key(message)),
    )


def _key(message: pb.CalibrationLink) -> attribution_pb2.CreditKey:
    return message.credited


def _variant(message: pb.TestedVariant, project: str) -> SwitchedGroup:
    return SwitchedGroup(require_id(message.experiment, project, "experiments"), message.variant)
