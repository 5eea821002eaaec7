"""From messages about layers, schemas, domains and holdouts to commands."""

import json
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from google.protobuf import json_format
from google.protobuf.struct_pb2 import Value
from touchstone.assignment.v1 import (
    domain_service_pb2,
    layer_pb2,
    layer_service_pb2,
    schema_pb2,
    schema_service_pb2,
)
from touchstone_assignment.bucketing import HashVersion

from services.assignment.application.create_layer import CreateLayer
from services.assignment.application.domains import CreateDomain
from services.assignment.application.find_resource import Change, Which
from services.assignment.application.holdouts import CreateHoldout
from services.assignment.application.schema import CreateAttribute, CreateUnitType
from services.assignment.application.update_layer import UpdateLayer
from services.assignment.domain.attribute import AttributeType
from services.assignment.domain.layer import TOTAL_SLOTS, LayerKind
from services.assignment.domain.parameter import Parameter
from services.assignment.wire.decode_experiment import HASH, require_no_salt
from shared import errors
from shared.resource_names import require_id

_KIND = {
    layer_pb2.LAYER_KIND_UNSPECIFIED: LayerKind.EXPERIMENT,
    layer_pb2.LAYER_KIND_EXPERIMENT: LayerKind.EXPERIMENT,
    layer_pb2.LAYER_KIND_LAUNCH: LayerKind.LAUNCH,
}
_ATTRIBUTE_TYPE = {
    schema_pb2.ATTRIBUTE_TYPE_STRING: AttributeType.STRING,
    schema_pb2.ATTRIBUTE_TYPE_NUMBER: AttributeType.NUMBER,
    schema_pb2.ATTRIBUTE_TYPE_BOOLEAN: AttributeType.BOOLEAN,
    schema_pb2.ATTRIBUTE_TYPE_VERSION: AttributeType.VERSION,
    schema_pb2.ATTRIBUTE_TYPE_INSTANT: AttributeType.INSTANT,
    schema_pb2.ATTRIBUTE_TYPE_ADDRESS: AttributeType.ADDRESS,
}


class Named(Protocol):
    """A message of a resource, or about one."""

    @property
    def name(self) -> str:
        """Its resource name."""
        ...

    @property
    def etag(self) -> str:
        """The etag that it must have; empty: any."""
        ...


def which(sent: Named, project: str, collection: str) -> Which:
    """The resource that a message is about, which is of the caller's project."""
    return Which(project, require_id(sent.name, project, collection), sent.etag)


def change(
    sent: Any, paths: Sequence[str], project: str, collection: str, allowed: Iterable[str]
) -> Change:
    """The change of the fields that a mask names, whose values stand in the resource sent."""
    _check_mask(paths, allowed)
    return Change(which(sent, project, collection), {path: getattr(sent, path) for path in paths})


def create_layer(request: layer_service_pb2.CreateLayerRequest, project: str) -> CreateLayer:
    """The command of a request whose parent is the caller's project."""
    sent = request.layer
    require_no_salt("layer", sent.salt)
    return CreateLayer(
        project=project,
        layer_id=request.layer_id,
        unit_type=sent.unit_type,
        hash_version=HASH[sent.hash_version] or HashVersion.FLAGD_V2,
        display_name=sent.display_name,
        kind=_KIND[sent.kind],
        domain=require_id(sent.domain, project, "domains") if sent.domain else "",
        parameters=_parameters(sent.parameters),
    )


def update_layer(request: layer_service_pb2.UpdateLayerRequest, project: str) -> UpdateLayer:
    """The command: the fields that the mask names, with their new values."""
    sent, paths = request.layer, list(request.update_mask.paths)
    _check_mask(paths, ("display_name", "parameters"))
    return UpdateLayer(
        project=project,
        layer_id=require_id(sent.name, project, "layers"),
        display_name=sent.display_name if "display_name" in paths else None,
        parameters=_parameters(sent.parameters) if "parameters" in paths else None,
        etag=sent.etag,
    )


def create_unit_type(
    request: schema_service_pb2.CreateUnitTypeRequest, project: str
) -> CreateUnitType:
    """The command of a request whose parent is the caller's project."""
    sent = request.unit_type
    return CreateUnitType(project, request.unit_type_id, sent.display_name, sent.description)


def create_attribute(
    request: schema_service_pb2.CreateAttributeRequest, project: str
) -> CreateAttribute:
    """The command of a request whose parent is the caller's project."""
    sent = request.attribute
    if sent.type not in _ATTRIBUTE_TYPE:
        allowed = ", ".join(_ATTRIBUTE_TYPE.values())
        raise errors.invalid("attribute.type", "unspecified", f"one of {allowed}")
    kind = _ATTRIBUTE_TYPE[sent.type]
    return CreateAttribute(project, request.attribute_id, kind, sent.display_name)


def create_domain(request: domain_service_pb2.CreateDomainRequest, project: str) -> CreateDomain:
    """The command of a request whose parent is the caller's project."""
    sent = request.domain
    return CreateDomain(
        project=project,
        domain_id=request.domain_id,
        layer=require_id(sent.layer, project, "layers"),
        traffic_slots=_slots("domain.traffic_slots", sent.traffic_slots),
        display_name=sent.display_name,
    )


def update_domain(request: domain_service_pb2.UpdateDomainRequest, project: str) -> Change:
    """The command: the fields that the mask names, with their new values."""
    sent, paths = request.domain, list(request.update_mask.paths)
    if "traffic_slots" in paths:
        _slots("domain.traffic_slots", sent.traffic_slots)
    return change(sent, paths, project, "domains", ("display_name", "traffic_slots"))


def create_holdout(request: domain_service_pb2.CreateHoldoutRequest, project: str) -> CreateHoldout:
    """The command of a request whose parent is the caller's project."""
    sent = request.holdout
    require_no_salt("holdout", sent.salt)
    return CreateHoldout(
        project=project,
        holdout_id=request.holdout_id,
        slots=_slots("holdout.slots", sent.slots),
        unit_type=sent.unit_type,
        layers=tuple(require_id(name, project, "layers") for name in sent.layers),
        experiments=tuple(require_id(name, project, "experiments") for name in sent.experiments),
        hash_version=HASH[sent.hash_version] or HashVersion.FLAGD_V2,
        display_name=sent.display_name,
        description=sent.description,
    )


def _check_mask(paths: Sequence[str], allowed: Iterable[str]) -> None:
    names = ", ".join(allowed)
    for path in paths:
        if path not in allowed:
            raise errors.invalid("update_mask", path, f"paths among {names}")
    if not paths:
        raise errors.invalid("update_mask", "", f"at least one of {names}")


def _slots(field: str, slots: int) -> int:
    if slots < 1:
        raise errors.invalid(field, slots, f"1 to {TOTAL_SLOTS}")
    return slots


def _parameters(sent: Iterable[layer_pb2.Parameter]) -> tuple[Parameter, ...]:
    return tuple(
        Parameter(
            parameter.key,
            _json(f"parameters[{index}].default_value", parameter.default_value),
            parameter.description,
        )
        for index, parameter in enumerate(sent)
    )


def _json(field: str, value: Value) -> str:
    """The text of a value; that of one which is not there is null."""
    if value.WhichOneof("kind") is None:
        return "null"
    try:
        found = json_format.MessageToDict(value)
    except (json_format.SerializeToJsonError, ValueError) as error:
        raise errors.invalid(field, str(error), "JSON with finite numbers") from error
    return json.dumps(found, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
