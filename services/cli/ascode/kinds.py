"""The kinds of resources that a file may hold, and how each is like its contract."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from touchstone.assignment.v1 import (
    audience_pb2,
    condition_pb2,
    domain_pb2,
    experiment_pb2,
    layer_pb2,
    schema_pb2,
)
from touchstone.attribution.v1 import attribution_pb2, report_service_pb2
from touchstone.common.v1 import filter_pb2
from touchstone.results.v1 import metric_pb2

API_VERSION = "touchstone/v1"
_ALWAYS_OUT = frozenset(
    ("name", "config_version", "etag", "create_time", "update_time", "end_time")
)


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind: what it is called in files and in resource names, and its message."""

    name: str
    collection: str
    message: Descriptor
    left_out: frozenset[str]
    """Fields that a file may not state, because the service alone sets them."""
    fixed: frozenset[str]
    """Fields that are fixed when it is made."""
    id_rule: str = "^[a-z][a-z0-9-]{0,62}$"

    @property
    def fields(self) -> Mapping[str, FieldDescriptor]:
        """The fields that a file may state."""
        return {
            field.name: field
            for field in self.message.fields
            if field.name not in self.left_out and field.name not in _ALWAYS_OUT
        }


def _kind(
    name: str,
    collection: str,
    message: Descriptor,
    *,
    left_out: str = "",
    fixed: str = "",
    id_rule: str = "^[a-z][a-z0-9-]{0,62}$",
) -> Kind:
    return Kind(
        name, collection, message, frozenset(left_out.split()), frozenset(fixed.split()), id_rule
    )


KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        kind.name: kind
        for kind in (
            _kind("UnitType", "unitTypes", schema_pb2.UnitType.DESCRIPTOR,
                  id_rule="^[a-z][a-z0-9_]{0,31}$"),
            _kind("Attribute", "attributes", schema_pb2.Attribute.DESCRIPTOR, fixed="type",
                  id_rule="^[A-Za-z_][A-Za-z0-9_.-]{0,63}$"),
            _kind("Audience", "audiences", audience_pb2.Audience.DESCRIPTOR),
            _kind("Layer", "layers", layer_pb2.Layer.DESCRIPTOR,
                  left_out="ranges free_slots", fixed="unit_type salt hash_version kind domain"),
            _kind("Domain", "domains", domain_pb2.Domain.DESCRIPTOR,
                  left_out="unit_type released", fixed="layer"),
            _kind("Metric", "metrics", metric_pb2.Metric.DESCRIPTOR,
                  left_out="version archive_time", fixed="kind",
                  id_rule="^[a-z][a-z0-9_-]{0,62}$"),
            _kind("Experiment", "experiments", experiment_pb2.Experiment.DESCRIPTOR,
                  left_out="start_time stop_time killed kill_reason server_only",
                  fixed="unit_type assignment_source layer salt hash_version allocation"),
            _kind("Holdout", "holdouts", domain_pb2.Holdout.DESCRIPTOR,
                  left_out="ended", fixed="unit_type slots salt hash_version"),
            _kind("ChannelGrouping", "channelGroupings",
                  attribution_pb2.ChannelGrouping.DESCRIPTOR,
                  left_out="version", id_rule="^[a-z][a-z0-9_-]{0,62}$"),
            _kind("AttributionReport", "attributionReports",
                  report_service_pb2.RunAttributionRequest.DESCRIPTOR,
                  left_out="parent report_id as_of request_id",
                  id_rule="^[a-z][a-z0-9_-]{0,62}$"),
        )
    }
)  # fmt: skip
"""By their names in files, in an order in which each needs only those before, as a rule."""

METRICS = ("Metric",)
GROUPINGS = ("ChannelGrouping",)
REPORT = "AttributionReport"
"""What a report is to say: no service keeps it, and commands are given it."""
ASSIGNED = tuple(name for name in KINDS if name not in (*METRICS, *GROUPINGS, REPORT))
"""Kinds that the assignment service keeps; the results service keeps metrics, and the attribution
service channel groupings.
"""

REFERENCES: Mapping[str, str] = MappingProxyType(
    {
        f"{message.full_name}.{field}": collection
        for message, field, collection in (
            (experiment_pb2.Experiment.DESCRIPTOR, "layer", "layers"),
            (experiment_pb2.Experiment.DESCRIPTOR, "metrics", "metrics"),
            (experiment_pb2.Prerequisite.DESCRIPTOR, "experiment", "experiments"),
            (layer_pb2.Layer.DESCRIPTOR, "domain", "domains"),
            (domain_pb2.Domain.DESCRIPTOR, "layer", "layers"),
            (domain_pb2.Holdout.DESCRIPTOR, "layers", "layers"),
            (domain_pb2.Holdout.DESCRIPTOR, "experiments", "experiments"),
            (condition_pb2.Condition.DESCRIPTOR, "audience", "audiences"),
        )
    }
)
"""Fields that name another resource, whose id is enough in a file; with its collection."""

OUT_WITHIN = frozenset(
    f"{message.full_name}.{field}"
    for message, fields in (
        (audience_pb2.IdList.DESCRIPTOR, ("count", "digest")),
        (attribution_pb2.ChannelGrouping.DESCRIPTOR, ("etag", "create_time", "update_time")),
    )
    for field in fields
)
"""Fields of parts that the service alone sets."""

STATES = ("DRAFT", "RUNNING", "PAUSED", "STOPPED")
"""The states that a file may ask of an experiment."""


def enum_names(field: FieldDescriptor) -> dict[str, int]:
    """The values of an enum by their short names, as files have them; without UNSPECIFIED."""
    assert field.enum_type is not None
    values = field.enum_type.values
    prefix = values[0].name.removesuffix("UNSPECIFIED")
    found = {value.name.removeprefix(prefix): value.number for value in values[1:]}
    is_state = field.full_name == "touchstone.assignment.v1.Experiment.state"
    return {name: found[name] for name in STATES} if is_state else found


def list_inside(message: Descriptor) -> FieldDescriptor | None:
    """The one repeated field of a message that is only a list: a file has the list in its place."""
    lists = (condition_pb2.ConditionList.DESCRIPTOR, filter_pb2.FilterList.DESCRIPTOR)
    if message.full_name in {each.full_name for each in lists}:
        return message.fields[0]
    return None
