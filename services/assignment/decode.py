"""From the contract's messages to commands; what a message cannot mean is INVALID_ARGUMENT."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from google.protobuf import json_format
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp
from touchstone.assignment.v1 import (
    assignment_service_pb2,
    experiment_pb2,
    experiment_service_pb2,
    layer_service_pb2,
)
from touchstone.common.v1 import unit_pb2
from touchstone_assignment.bucketing import HashVersion

from services.assignment.application.assign import AssignUnits
from services.assignment.application.create_experiment import CreateExperiment
from services.assignment.application.create_layer import CreateLayer
from services.assignment.application.update_experiment import UpdateExperiment
from services.assignment.domain.experiment import AssignmentSource, Variant
from shared import errors, resource_names

_HASH = {
    experiment_pb2.HASH_VERSION_UNSPECIFIED: None,
    experiment_pb2.HASH_VERSION_FLAGD_V2: HashVersion.FLAGD_V2,
    experiment_pb2.HASH_VERSION_FLAGD_V3: HashVersion.FLAGD_V3,
}
_SOURCE = {
    experiment_pb2.ASSIGNMENT_SOURCE_UNSPECIFIED: AssignmentSource.SLOTS,
    experiment_pb2.ASSIGNMENT_SOURCE_SLOTS: AssignmentSource.SLOTS,
    experiment_pb2.ASSIGNMENT_SOURCE_EXTERNAL: AssignmentSource.EXTERNAL,
}


def create_experiment(
    request: experiment_service_pb2.CreateExperimentRequest, project: str
) -> CreateExperiment:
    """The command of a request whose parent is the caller's project."""
    sent = request.experiment
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
        hash_version=_HASH[sent.hash_version],
        traffic_slots=sent.traffic_slots,
        control=sent.control_variant,
        metrics=_metrics(sent, project),
        start_time=_time(sent, "start_time"),
        stop_time=_time(sent, "stop_time"),
    )


def update_experiment(
    request: experiment_service_pb2.UpdateExperimentRequest, project: str
) -> UpdateExperiment:
    """The command: the fields that the mask names, with their new values."""
    sent = request.experiment
    experiment_id = resource_names.require_id(sent.name, project, "experiments")
    values: dict[str, tuple[str, str | int | tuple[Variant, ...] | tuple[str, ...]]] = {
        "display_name": ("display_name", sent.display_name),
        "hypothesis": ("hypothesis", sent.hypothesis),
        "owner": ("owner", sent.owner),
        "traffic_slots": ("traffic_slots", sent.traffic_slots),
        "control_variant": ("control", sent.control_variant),
        "metrics": ("metrics", _metrics(sent, project)),
    }
    paths = list(request.update_mask.paths)
    if "variants" in paths:
        values["variants"] = ("variants", _variants(sent))
    allowed = sorted({*values, "variants"})
    for path in paths:
        if path not in values:
            raise errors.invalid("update_mask", path, f"paths among {', '.join(allowed)}")
    if not paths:
        raise errors.invalid("update_mask", "", f"at least one of {', '.join(allowed)}")
    changes = dict(values[path] for path in paths)
    return UpdateExperiment(project, experiment_id, changes, sent.etag)


def create_layer(request: layer_service_pb2.CreateLayerRequest, project: str) -> CreateLayer:
    """The command of a request whose parent is the caller's project."""
    return CreateLayer(
        project=project,
        layer_id=request.layer_id,
        unit_type=request.layer.unit_type or "user",
        hash_version=_HASH[request.layer.hash_version] or HashVersion.FLAGD_V2,
        display_name=request.layer.display_name,
    )


def assign(request: assignment_service_pb2.AssignRequest) -> AssignUnits:
    """The command: the ids of each unit by their type, which may stand once."""
    units: list[Mapping[str, str]] = []
    for unit in request.units:
        # Each access to a message's field makes an object: with thousands of units that counts.
        ids = unit.ids
        if len(ids) == 1:
            only = ids[0]
            units.append({only.type: only.id})
        else:
            units.append(_ids(len(units), ids))
    return AssignUnits(units, tuple(request.experiments))


def _ids(index: int, ids: Sequence[unit_pb2.UnitId]) -> Mapping[str, str]:
    found = {sent.type: sent.id for sent in ids}
    if len(found) < len(ids):
        types = [sent.type for sent in ids]
        raise errors.invalid(f"units[{index}].ids", types, "one id of each type")
    return found


def _metrics(sent: experiment_pb2.Experiment, project: str) -> tuple[str, ...]:
    return tuple(resource_names.require_id(name, project, "metrics") for name in sent.metrics)


def _variants(sent: experiment_pb2.Experiment) -> tuple[Variant, ...]:
    return tuple(
        Variant(
            key=variant.key,
            weight=variant.weight,
            display_name=variant.display_name,
            payload=_payload(index, variant.payload) if variant.HasField("payload") else None,
        )
        for index, variant in enumerate(sent.variants)
    )


def _payload(index: int, payload: Struct) -> str:
    try:
        found = json_format.MessageToDict(payload)
    except (json_format.SerializeToJsonError, ValueError) as error:
        raise errors.invalid(
            f"variants[{index}].payload", str(error), "JSON with finite numbers"
        ) from error
    return json.dumps(found, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _time(sent: experiment_pb2.Experiment, field: str) -> datetime | None:
    if not sent.HasField(field):  # type: ignore[arg-type]  # the two callers name time fields
        return None
    stamp: Timestamp = getattr(sent, field)
    try:
        return stamp.ToDatetime(UTC)
    except (ValueError, OverflowError) as error:
        allowed = "a time from 0001-01-01T00:00:00Z to 9999-12-31T23:59:59Z"
        raise errors.invalid(field, stamp.seconds, allowed) from error
