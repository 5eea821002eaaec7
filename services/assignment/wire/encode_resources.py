"""From layers, schemas, domains and holdouts to the contract's messages."""

from datetime import datetime

from google.protobuf import json_format
from google.protobuf.struct_pb2 import Value
from touchstone.assignment.v1 import domain_pb2, layer_pb2, schema_pb2

from services.assignment.domain.attribute import Attribute, AttributeType
from services.assignment.domain.domain import Domain
from services.assignment.domain.holdout import Holdout
from services.assignment.domain.layer import Layer, LayerKind, SlotRange
from services.assignment.domain.parameter import Parameter
from services.assignment.domain.resource import Resource
from services.assignment.domain.unit_type import UnitType
from services.assignment.wire.encode import HASH, stamp
from shared.resource_names import resource_name

_KIND = {
    LayerKind.EXPERIMENT: layer_pb2.LAYER_KIND_EXPERIMENT,
    LayerKind.LAUNCH: layer_pb2.LAYER_KIND_LAUNCH,
}
_ATTRIBUTE_TYPE = {
    AttributeType.STRING: schema_pb2.ATTRIBUTE_TYPE_STRING,
    AttributeType.NUMBER: schema_pb2.ATTRIBUTE_TYPE_NUMBER,
    AttributeType.BOOLEAN: schema_pb2.ATTRIBUTE_TYPE_BOOLEAN,
    AttributeType.VERSION: schema_pb2.ATTRIBUTE_TYPE_VERSION,
    AttributeType.INSTANT: schema_pb2.ATTRIBUTE_TYPE_INSTANT,
    AttributeType.ADDRESS: schema_pb2.ATTRIBUTE_TYPE_ADDRESS,
}


def layer(found: Layer, now: datetime, *, ledger: bool = True) -> layer_pb2.Layer:
    """The layer as it is sent; a list leaves the ledger out."""
    rows = found.ledger if ledger else ()
    return layer_pb2.Layer(
        name=resource_name(found.project, "layers", found.layer_id),
        display_name=found.display_name,
        unit_type=found.unit_type,
        salt=found.salt,
        hash_version=HASH[found.hash_version],
        ranges=[_slot_range(found.project, row) for row in rows],
        free_slots=found.free_slots(now),
        create_time=stamp(found.create_time),
        etag=found.etag,
        kind=_KIND[found.kind],
        domain=_name_or_empty(found.project, "domains", found.domain),
        parameters=[_parameter(parameter) for parameter in found.parameters],
    )


def unit_type(found: UnitType) -> schema_pb2.UnitType:
    """The unit type as it is sent."""
    return schema_pb2.UnitType(
        name=_name(found, "unitTypes"),
        display_name=found.display_name,
        description=found.description,
        config_version=found.config_version,
        etag=found.etag,
        create_time=stamp(found.create_time),
    )


def attribute(found: Attribute) -> schema_pb2.Attribute:
    """The attribute as it is sent."""
    return schema_pb2.Attribute(
        name=_name(found, "attributes"),
        display_name=found.display_name,
        type=_ATTRIBUTE_TYPE[found.type],
        config_version=found.config_version,
        etag=found.etag,
        create_time=stamp(found.create_time),
    )


def domain(found: Domain) -> domain_pb2.Domain:
    """The domain as it is sent."""
    return domain_pb2.Domain(
        name=_name(found, "domains"),
        display_name=found.display_name,
        layer=resource_name(found.project, "layers", found.layer),
        traffic_slots=found.traffic_slots,
        unit_type=found.unit_type,
        released=found.released,
        config_version=found.config_version,
        etag=found.etag,
        create_time=stamp(found.create_time),
    )


def holdout(found: Holdout) -> domain_pb2.Holdout:
    """The holdout as it is sent."""
    project = found.project
    return domain_pb2.Holdout(
        name=_name(found, "holdouts"),
        display_name=found.display_name,
        description=found.description,
        unit_type=found.unit_type,
        slots=found.slots,
        layers=[resource_name(project, "layers", key) for key in found.layers],
        experiments=[resource_name(project, "experiments", key) for key in found.experiments],
        salt=found.salt,
        hash_version=HASH[found.hash_version],
        ended=found.ended,
        config_version=found.config_version,
        etag=found.etag,
        create_time=stamp(found.create_time),
        end_time=stamp(found.end_time),
    )


def _name(found: Resource, collection: str) -> str:
    return resource_name(found.project, collection, found.resource_id)


def _name_or_empty(project: str, collection: str, key: str) -> str:
    return resource_name(project, collection, key) if key else ""


def _parameter(found: Parameter) -> layer_pb2.Parameter:
    return layer_pb2.Parameter(
        key=found.key,
        default_value=json_format.Parse(found.default, Value()),
        description=found.description,
    )


def _slot_range(project: str, row: SlotRange) -> layer_pb2.SlotRange:
    return layer_pb2.SlotRange(
        first_slot=row.first,
        end_slot=row.end,
        experiment=_name_or_empty(project, "experiments", row.experiment_id),
        since_version=row.since_version,
        release_time=stamp(row.release_time),
        reusable_time=stamp(row.reusable_time),
        domain=_name_or_empty(project, "domains", row.domain_id),
    )
