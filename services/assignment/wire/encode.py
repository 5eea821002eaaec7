"""From the domain to the contract's messages."""

from collections.abc import Iterable
from datetime import datetime

from google.protobuf import json_format
from google.protobuf.struct_pb2 import Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp
from touchstone.assignment.v1 import experiment_pb2, experiment_service_pb2
from touchstone.common.v1 import unit_pb2
from touchstone_assignment.bucketing import HashVersion

from services.assignment.domain.experiment import (
    NOTHING_SCHEDULED,
    Allocation,
    AssignmentSource,
    Experiment,
    Prerequisite,
    Schedule,
    State,
    Switchback,
    ValueType,
    Variant,
)
from services.assignment.domain.forced import ForcedVariant
from services.assignment.wire.condition_text import named_condition
from shared.resource_names import resource_name

_STATE = {
    State.DRAFT: experiment_pb2.Experiment.STATE_DRAFT,
    State.RUNNING: experiment_pb2.Experiment.STATE_RUNNING,
    State.PAUSED: experiment_pb2.Experiment.STATE_PAUSED,
    State.STOPPED: experiment_pb2.Experiment.STATE_STOPPED,
    State.ARCHIVED: experiment_pb2.Experiment.STATE_ARCHIVED,
}
_SOURCE = {
    AssignmentSource.SLOTS: experiment_pb2.ASSIGNMENT_SOURCE_SLOTS,
    AssignmentSource.EXTERNAL: experiment_pb2.ASSIGNMENT_SOURCE_EXTERNAL,
}
_VALUE_TYPE = {
    ValueType.KEY: experiment_pb2.VALUE_TYPE_KEY,
    ValueType.BOOLEAN: experiment_pb2.VALUE_TYPE_BOOLEAN,
    ValueType.STRING: experiment_pb2.VALUE_TYPE_STRING,
    ValueType.INTEGER: experiment_pb2.VALUE_TYPE_INTEGER,
    ValueType.FLOAT: experiment_pb2.VALUE_TYPE_FLOAT,
    ValueType.OBJECT: experiment_pb2.VALUE_TYPE_OBJECT,
}
_ALLOCATION = {
    Allocation.FIXED: experiment_pb2.ALLOCATION_FIXED,
    Allocation.BANDIT: experiment_pb2.ALLOCATION_BANDIT,
}
HASH = {
    HashVersion.FLAGD_V2: experiment_pb2.HASH_VERSION_FLAGD_V2,
    HashVersion.FLAGD_V3: experiment_pb2.HASH_VERSION_FLAGD_V3,
}
_STATES = {int(number): state for state, number in _STATE.items()}


def states(sent: Iterable[int]) -> frozenset[State]:
    """The states that a request names, which are all defined."""
    return frozenset(_STATES[state] for state in sent)


def experiment(found: Experiment, *, server_only: bool) -> experiment_pb2.Experiment:
    """The experiment as it is sent."""
    design = found.design
    return experiment_pb2.Experiment(
        name=resource_name(found.project, "experiments", found.experiment_id),
        display_name=design.display_name,
        hypothesis=design.hypothesis,
        owner=design.owner,
        unit_type=design.unit_type,
        assignment_source=_SOURCE[design.source],
        layer=resource_name(found.project, "layers", design.layer) if design.layer else "",
        traffic_slots=design.traffic_slots,
        variants=[_variant(variant) for variant in design.variants],
        control_variant=design.control,
        metrics=[resource_name(found.project, "metrics", metric) for metric in design.metrics],
        salt=design.salt,
        hash_version=HASH[design.hash_version],
        state=_STATE[found.state],
        config_version=found.config_version,
        etag=found.etag,
        create_time=stamp(found.create_time),
        update_time=stamp(found.update_time),
        start_time=stamp(found.start_time),
        stop_time=stamp(found.stop_time),
        value_type=_VALUE_TYPE[design.value_type],
        targeting=named_condition(design.targeting, found.project) if design.targeting else None,
        prerequisites=[_prerequisite(found.project, needed) for needed in design.prerequisites],
        sticky=design.sticky,
        anonymous_unit_type=design.anonymous_unit_type,
        schedule=_schedule(design.schedule) if design.schedule != NOTHING_SCHEDULED else None,
        switchback=_switchback(design.switchback) if design.switchback else None,
        allocation=_ALLOCATION[design.allocation],
        observed_unit_type=design.observed_unit_type,
        killed=found.killed,
        kill_reason=found.kill_reason,
        server_only=server_only,
    )


def _switchback(found: Switchback) -> experiment_pb2.Switchback:
    """The windows as they are sent."""
    return experiment_pb2.Switchback(
        window_s=found.window_s,
        washout_s=found.washout_s,
        region_attribute=found.region_attribute,
    )


def forced_variant(found: ForcedVariant) -> experiment_service_pb2.ForcedVariant:
    """The forced variant as it is sent."""
    return experiment_service_pb2.ForcedVariant(
        unit=unit_pb2.UnitId(type=found.unit_type, id=found.unit_id),
        variant=found.variant,
        note=found.note,
        create_time=stamp(found.create_time),
    )


def payload(text: str | None) -> Struct | None:
    """A variant's payload as it is sent."""
    return None if text is None else json_format.Parse(text, Struct())


def value(text: str | None) -> Value | None:
    """A variant's value as it is sent."""
    return None if text is None else json_format.Parse(text, Value())


def _variant(variant: Variant) -> experiment_pb2.Variant:
    return experiment_pb2.Variant(
        key=variant.key,
        display_name=variant.display_name,
        weight=variant.weight,
        payload=payload(variant.payload),
        value=value(variant.value),
        dropped=variant.dropped,
    )


def _prerequisite(project: str, needed: Prerequisite) -> experiment_pb2.Prerequisite:
    name = resource_name(project, "experiments", needed.experiment_id)
    return experiment_pb2.Prerequisite(experiment=name, variants=needed.variants)


def _schedule(found: Schedule) -> experiment_pb2.Schedule:
    return experiment_pb2.Schedule(
        start_time=stamp(found.start_time),
        stop_time=stamp(found.stop_time),
        ramp=[
            experiment_pb2.RampStage(time=stamp(stage.time), traffic_slots=stage.traffic_slots)
            for stage in found.ramp
        ],
    )


def stamp(time: datetime | None) -> Timestamp | None:
    """A time as it is sent; None stays away."""
    if time is None:
        return None
    found = Timestamp()
    found.FromDatetime(time)
    return found
