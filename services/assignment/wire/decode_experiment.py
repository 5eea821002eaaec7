"""From messages about experiments to commands; what one cannot mean is INVALID_ARGUMENT."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from google.protobuf import json_format
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from touchstone.assignment.v1 import experiment_pb2, experiment_service_pb2
from touchstone.common.v1 import unit_pb2
from touchstone_assignment.bucketing import HashVersion

from services.assignment.application.create_experiment import CreateExperiment
from services.assignment.application.forced_variants import ForcedUnit
from services.assignment.application.update_experiment import UpdateExperiment
from services.assignment.domain.experiment import (
    Allocation,
    AssignmentSource,
    Prerequisite,
    RampStage,
    Schedule,
    Switchback,
    ValueType,
    Variant,
)
from services.assignment.wire.condition_text import condition_text
from shared import errors, resource_names

_Sent = experiment_pb2.Experiment
HASH = {
    experiment_pb2.HASH_VERSION_UNSPECIFIED: None,
    experiment_pb2.HASH_VERSION_FLAGD_V2: HashVersion.FLAGD_V2,
    experiment_pb2.HASH_VERSION_FLAGD_V3: HashVersion.FLAGD_V3,
}
_SOURCE = {
    experiment_pb2.ASSIGNMENT_SOURCE_UNSPECIFIED: AssignmentSource.SLOTS,
    experiment_pb2.ASSIGNMENT_SOURCE_SLOTS: AssignmentSource.SLOTS,
    experiment_pb2.ASSIGNMENT_SOURCE_EXTERNAL: AssignmentSource.EXTERNAL,
}
_VALUE_TYPE = {
    experiment_pb2.VALUE_TYPE_UNSPECIFIED: ValueType.KEY,
    experiment_pb2.VALUE_TYPE_KEY: ValueType.KEY,
    experiment_pb2.VALUE_TYPE_BOOLEAN: ValueType.BOOLEAN,
    experiment_pb2.VALUE_TYPE_STRING: ValueType.STRING,
    experiment_pb2.VALUE_TYPE_INTEGER: ValueType.INTEGER,
    experiment_pb2.VALUE_TYPE_FLOAT: ValueType.FLOAT,
    experiment_pb2.VALUE_TYPE_OBJECT: ValueType.OBJECT,
}
_ALLOCATION = {
    experiment_pb2.ALLOCATION_UNSPECIFIED: Allocation.FIXED,
    experiment_pb2.ALLOCATION_FIXED: Allocation.FIXED,
    experiment_pb2.ALLOCATION_BANDIT: Allocation.BANDIT,
}


def require_no_salt(resource: str, salt: str) -> None:
    """INVALID_ARGUMENT for a salt of what is to be made: silently another one would decide."""
    if salt:
        allowed = "none: the service draws one that is independent of all others; leave it out"
        raise errors.invalid(f"{resource}.salt", salt, allowed)


def create_experiment(
    request: experiment_service_pb2.CreateExperimentRequest, project: str
) -> CreateExperiment:
    """The command of a request whose parent is the caller's project."""
    sent = request.experiment
    require_no_salt("experiment", sent.salt)
    layer = resource_names.require_id(sent.layer, project, "layers") if sent.layer else ""
    return CreateExperiment(
        project=project,
        experiment_id=request.experiment_id,
        variants=_variants(sent),
        display_name=sent.display_name,
        hypothesis=sent.hypothesis,
        owner=sent.owner,
        unit_type=sent.unit_type,
        layer=layer,
        source=_SOURCE[sent.assignment_source],
        hash_version=HASH[sent.hash_version],
        traffic_slots=sent.traffic_slots,
        control=sent.control_variant,
        metrics=_metrics(sent, project),
        start_time=_time(sent, "start_time"),
        stop_time=_time(sent, "stop_time"),
        value_type=_VALUE_TYPE[sent.value_type],
        targeting=_targeting(sent, project),
        prerequisites=_prerequisites(sent, project),
        sticky=sent.sticky,
        anonymous_unit_type=sent.anonymous_unit_type,
        schedule=_schedule(sent),
        switchback=_switchback(sent),
        allocation=_ALLOCATION[sent.allocation],
        observed_unit_type=sent.observed_unit_type,
    )


def update_experiment(
    request: experiment_service_pb2.UpdateExperimentRequest, project: str
) -> UpdateExperiment:
    """The command: the fields that the mask names, with their new values."""
    sent = request.experiment
    experiment_id = resource_names.require_id(sent.name, project, "experiments")
    paths, allowed = list(request.update_mask.paths), ", ".join(sorted(_FIELDS))
    for path in paths:
        if path not in _FIELDS:
            raise errors.invalid("update_mask", path, f"paths among {allowed}")
    if not paths:
        raise errors.invalid("update_mask", "", f"at least one of {allowed}")
    changes: dict[str, object] = {}
    for path in paths:
        field, read = _FIELDS[path]
        changes[field] = read(sent, project)
    return UpdateExperiment(project, experiment_id, changes, sent.etag)


def forced_unit(name: str, unit: unit_pb2.UnitId, project: str) -> ForcedUnit:
    """The unit in an experiment that the request names."""
    return ForcedUnit(
        project, resource_names.require_id(name, project, "experiments"), unit.type, unit.id
    )


def _metrics(sent: _Sent, project: str) -> tuple[str, ...]:
    return tuple(resource_names.require_id(name, project, "metrics") for name in sent.metrics)


def _targeting(sent: _Sent, project: str) -> str | None:
    if not sent.HasField("targeting"):
        return None
    return condition_text(sent.targeting, project, "targeting")


def _prerequisites(sent: _Sent, project: str) -> tuple[Prerequisite, ...]:
    return tuple(
        Prerequisite(
            resource_names.require_id(needed.experiment, project, "experiments"),
            tuple(needed.variants),
        )
        for needed in sent.prerequisites
    )


def _schedule(sent: _Sent) -> Schedule:
    schedule = sent.schedule
    ramp = tuple(
        RampStage(_instant(stage.time, f"schedule.ramp[{index}].time"), stage.traffic_slots)
        for index, stage in enumerate(schedule.ramp)
    )
    return Schedule(
        start_time=_time(schedule, "start_time", "schedule."),
        stop_time=_time(schedule, "stop_time", "schedule."),
        ramp=ramp,
    )


def _switchback(sent: _Sent) -> Switchback | None:
    if not sent.HasField("switchback"):
        return None
    windows = sent.switchback
    return Switchback(windows.window_s, windows.washout_s, windows.region_attribute)


def _variants(sent: _Sent) -> tuple[Variant, ...]:
    return tuple(
        Variant(
            key=variant.key,
            weight=variant.weight,
            display_name=variant.display_name,
            payload=_json(variant, "payload", index),
            value=_json(variant, "value", index),
            dropped=variant.dropped,
        )
        for index, variant in enumerate(sent.variants)
    )


def _json(variant: experiment_pb2.Variant, field: Any, index: int) -> str | None:
    """The text of a field that holds JSON; None when it is not there."""
    if not variant.HasField(field):
        return None
    try:
        found = json_format.MessageToDict(getattr(variant, field))
    except (json_format.SerializeToJsonError, ValueError) as error:
        raise errors.invalid(
            f"variants[{index}].{field}", str(error), "JSON with finite numbers"
        ) from error
    return json.dumps(found, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _time(sent: Message, field: Any, prefix: str = "") -> datetime | None:
    if not sent.HasField(field):
        return None
    return _instant(getattr(sent, field), f"{prefix}{field}")


def _instant(stamp: Timestamp, field: str) -> datetime:
    try:
        return stamp.ToDatetime(UTC)
    except (ValueError, OverflowError) as error:
        allowed = "a time from 0001-01-01T00:00:00Z to 9999-12-31T23:59:59Z"
        raise errors.invalid(field, stamp.seconds, allowed) from error


def _same(field: str) -> Callable[[_Sent, str], object]:
    return lambda sent, _project: getattr(sent, field)


# The paths that a mask may name: the field of the design, and how its value is read.
_FIELDS: dict[str, tuple[str, Callable[[_Sent, str], object]]] = {
    "display_name": ("display_name", _same("display_name")),
    "hypothesis": ("hypothesis", _same("hypothesis")),
    "owner": ("owner", _same("owner")),
    "traffic_slots": ("traffic_slots", _same("traffic_slots")),
    "control_variant": ("control", _same("control_variant")),
    "metrics": ("metrics", _metrics),
    "variants": ("variants", lambda sent, _project: _variants(sent)),
    "value_type": ("value_type", lambda sent, _project: _VALUE_TYPE[sent.value_type]),
    "targeting": ("targeting", _targeting),
    "prerequisites": ("prerequisites", _prerequisites),
    "sticky": ("sticky", _same("sticky")),
    "anonymous_unit_type": ("anonymous_unit_type", _same("anonymous_unit_type")),
    "schedule": ("schedule", lambda sent, _project: _schedule(sent)),
    "switchback": ("switchback", lambda sent, _project: _switchback(sent)),
    "observed_unit_type": ("observed_unit_type", _same("observed_unit_type")),
}
