"""What a project has, as the files would say it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from touchstone.assignment.v1 import (
    audience_service_pb2,
    domain_service_pb2,
    experiment_service_pb2,
    layer_service_pb2,
    schema_service_pb2,
)
from touchstone.assignment.v1 import experiment_pb2 as pb
from touchstone.attribution.v1 import grouping_service_pb2
from touchstone.results.v1 import metric_service_pb2

from services.cli.ascode.kinds import ASSIGNED, KINDS, Kind
from services.cli.ascode.metric_defaults import state_metric
from services.cli.paging import collect
from services.cli.session import Session

_MOST = 1_000_000
Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Calls:
    """The service of a kind, its requests, and the name of the kind in them."""

    stub: str
    module: Any
    field: str

    def request(self, verb: str, plural: str = "") -> Any:
        """The class of a request."""
        return getattr(self.module, f"{verb}{plural or self.noun}Request")

    @property
    def noun(self) -> str:
        """The kind as RPCs name it."""
        return "".join(part.capitalize() for part in self.field.split("_"))


CALLS: Mapping[str, Calls] = {
    "UnitType": Calls("schema", schema_service_pb2, "unit_type"),
    "Attribute": Calls("schema", schema_service_pb2, "attribute"),
    "Audience": Calls("audiences", audience_service_pb2, "audience"),
    "Layer": Calls("layers", layer_service_pb2, "layer"),
    "Domain": Calls("domains", domain_service_pb2, "domain"),
    "Metric": Calls("metrics", metric_service_pb2, "metric"),
    "Experiment": Calls("experiments", experiment_service_pb2, "experiment"),
    "Holdout": Calls("domains", domain_service_pb2, "holdout"),
    "ChannelGrouping": Calls("groupings", grouping_service_pb2, "channel_grouping"),
}


@dataclass(frozen=True, slots=True)
class Present:
    """A resource of the project."""

    kind: Kind
    resource_id: str
    message: Any


def present(session: Session, kinds: Iterable[str] = ASSIGNED) -> dict[Key, Present]:
    """Every resource of these kinds that is not over: archived experiments and metrics, released
    domains and ended holdouts are left out.
    """
    found: dict[Key, Present] = {}
    for kind in map(KINDS.__getitem__, kinds):
        calls = CALLS[kind.name]
        plural = f"{calls.field}s"
        request = calls.request("List", f"{calls.noun}s")(parent=session.parent)
        call = getattr(getattr(session, calls.stub), f"List{calls.noun}s")
        for message in getattr(collect(call, request, plural, _MOST), plural):
            if not _is_over(message):
                resource_id = message.name.rpartition("/")[2]
                found[(kind.name, resource_id)] = Present(kind, resource_id, message)
    return found


def _is_over(message: Any) -> bool:
    return bool(getattr(message, "released", False) or getattr(message, "ended", False))


def is_own_layer(one: Present, project: Mapping[Key, Present]) -> bool:
    """Whether it is the layer that an experiment got for itself alone."""
    experiment = project.get(("Experiment", one.resource_id))
    return (
        one.kind.name == "Layer"
        and experiment is not None
        and experiment.message.layer == one.message.name
        and not one.message.parameters
        and not one.message.domain
    )


def stated(kind: Kind, resource_id: str, message: Any) -> Any:
    """The message with what a file may state, and with what stands where nothing is stated."""
    made = type(message)()
    made.CopyFrom(message)
    for field in made.DESCRIPTOR.fields:
        if field.name not in kind.fields:
            made.ClearField(field.name)
    if kind.name == "Audience" and made.HasField("id_list"):
        made.id_list.ClearField("count")
        made.id_list.ClearField("digest")
    if kind.name in ("Experiment", "Layer", "Holdout"):
        made.unit_type = made.unit_type or "user"
        made.hash_version = made.hash_version or pb.HASH_VERSION_FLAGD_V2
    if kind.name == "Layer":
        made.kind = made.kind or 1
    if kind.name == "Experiment":
        _experiment(resource_id, made)
    if kind.name == "Metric":
        state_metric(made)
    return made


def _experiment(resource_id: str, made: Any) -> None:
    made.assignment_source = made.assignment_source or pb.ASSIGNMENT_SOURCE_SLOTS
    made.value_type = made.value_type or pb.VALUE_TYPE_KEY
    made.allocation = made.allocation or pb.ALLOCATION_FIXED
    if not made.control_variant and made.variants:
        made.control_variant = made.variants[0].key
    if made.assignment_source == pb.ASSIGNMENT_SOURCE_SLOTS:
        made.traffic_slots = made.traffic_slots or 10_000
        if made.layer.rpartition("/")[2] == resource_id:
            # A layer of its own is what it gets where none is named.
            made.ClearField("layer")
    if made.HasField("schedule") and not made.schedule.ByteSize():
        made.ClearField("schedule")
