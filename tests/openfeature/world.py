"""Experiments of every kind that a client can meet, made through the service's own RPCs.

There is one set of them for each hash: by flagd-v2 the ids end with -v2, by flagd-v3 with -v3.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf import json_format
from google.protobuf.struct_pb2 import Struct
from touchstone.assignment.v1 import assignment_service_pb2 as assignment
from touchstone.assignment.v1 import assignment_service_pb2_grpc as assignment_grpc
from touchstone.assignment.v1 import domain_service_pb2 as domains
from touchstone.assignment.v1 import (
    domain_service_pb2_grpc,
    experiment_service_pb2_grpc,
    layer_service_pb2_grpc,
    schema_service_pb2_grpc,
)
from touchstone.assignment.v1 import experiment_service_pb2 as experiments
from touchstone.assignment.v1 import layer_service_pb2 as layers
from touchstone.assignment.v1 import schema_service_pb2 as schema

from shared.testing.serving import bearer

PROJECT = "acme"
PARENT = f"projects/{PROJECT}"
DIALECTS = ("flagd-v2", "flagd-v3")
UNITS_A_CALL = 1000
Context = dict[str, Any]
ATTRIBUTES = {
    "country": "STRING",
    "email": "STRING",
    "age": "NUMBER",
    "beta": "BOOLEAN",
    "app": "VERSION",
}
COUNTRIES = ("DE", "FR", "US", "JP", "BR")
VERSIONS = ("1.9.0", "2.0.0", "2.1.3", "2.10.0", "3.0.0-rc.1")


@dataclass(frozen=True, slots=True)
class Flag:
    """A flag as a client asks for it: its key, its type and what the code falls back to."""

    key: str
    kind: str
    default: Any

    @property
    def asked(self) -> list[Any]:
        """As the programs of the clients want it."""
        return [self.key, self.kind, self.default]


# Each default is none of the values, so that it shows when a client falls back to it.
KINDS: Mapping[str, tuple[str, Any]] = {
    "button": ("string", "?"),
    "banner": ("object", {"is": "?"}),
    "price": ("float", -1.5),
    "rank": ("integer", -1),
    "dark": ("boolean", True),
    "plan": ("string", "?"),
    "stopped": ("string", "?"),
    "killed": ("string", "?"),
}
SERVER_ONLY: Mapping[str, tuple[str, Any]] = {
    "modern": ("string", "?"),
    "kept": ("string", "?"),
}
"""What no document for a client holds: versions, which engines compare differently, and what only
the server remembers.
"""


def flags_of(dialect: str, server: bool = True) -> list[Flag]:
    """The flags of one hash; those that only the server decides among them, or not."""
    end = dialect.removeprefix("flagd")
    kinds = {**KINDS, **(SERVER_ONLY if server else {})}
    return [Flag(f"{name}{end}", *kind) for name, kind in kinds.items()]


ALL_FLAGS = [flag for dialect in DIALECTS for flag in flags_of(dialect)]


@dataclass(frozen=True, slots=True)
class Assigned:
    """What AssignmentService says of a unit in an experiment."""

    variant: str
    """Empty when it gets none."""
    reason: str
    value: Any
    """The value of the variant, or of the control."""


def contexts(count: int) -> list[Context]:
    """Units with what is known of them; some things are not known of some."""
    return [_context(n) for n in range(count)]


def _context(n: int) -> Context:
    found: Context = {"targetingKey": f"user-{n}", "org": f"org-{n % 997}", "age": n % 90}
    if n % 11:
        found["country"] = COUNTRIES[n % len(COUNTRIES)]
    if n % 7:
        found["email"] = f"{n}@{'example.com' if n % 5 else 'test.example'}"
    if n % 13:
        found["app"] = VERSIONS[n % len(VERSIONS)]
    if n % 3:
        found["beta"] = n % 2 == 0
    return found


class Service:
    """The RPCs of a running service, with a key that may do everything."""

    def __init__(self, channel: grpc.Channel, key: str) -> None:
        self._metadata = bearer(key)
        self.assignment = assignment_grpc.AssignmentServiceStub(channel)
        self.experiments = experiment_service_pb2_grpc.ExperimentServiceStub(channel)
        self.layers = layer_service_pb2_grpc.LayerServiceStub(channel)
        self.domains = domain_service_pb2_grpc.DomainServiceStub(channel)
        self.schema = schema_service_pb2_grpc.SchemaServiceStub(channel)

    def call(self, method: Any, request: Any) -> Any:
        """One RPC."""
        return method(request, metadata=self._metadata, timeout=30)

    def create_experiment(self, experiment_id: str, start: bool = True, **design: Any) -> None:
        """A design, which runs then unless it is to be left a draft."""
        request = experiments.CreateExperimentRequest(parent=PARENT, experiment_id=experiment_id)
        json_format.ParseDict(design, request.experiment)
        self.call(self.experiments.CreateExperiment, request)
        if start:
            name = self.name(experiment_id)
            self.call(
                self.experiments.StartExperiment, experiments.StartExperimentRequest(name=name)
            )

    def update_experiment(self, experiment_id: str, **changes: Any) -> None:
        """Changes fields of a design."""
        name = self.name(experiment_id)
        request = experiments.UpdateExperimentRequest()
        found = self.call(
            self.experiments.GetExperiment, experiments.GetExperimentRequest(name=name)
        )
        json_format.ParseDict({"name": name, **changes}, request.experiment)
        request.experiment.etag = found.experiment.etag
        request.update_mask.paths.extend(changes)
        self.call(self.experiments.UpdateExperiment, request)

    def name(self, experiment_id: str) -> str:
        """The resource name of an experiment."""
        return f"{PARENT}/experiments/{experiment_id}"

    def assign(self, flags: Sequence[Flag], units: Sequence[Context]) -> list[list[Assigned]]:
        """For each unit, for each flag, what AssignmentService says."""
        keys = [flag.key for flag in flags]
        found: list[list[Assigned]] = []
        for start in range(0, len(units), UNITS_A_CALL):
            some = [unit_context(unit) for unit in units[start : start + UNITS_A_CALL]]
            request = assignment.AssignRequest(units=some, experiments=keys)
            reply = self.call(self.assignment.Assign, request)
            values = [_values_of(experiment) for experiment in reply.experiments]
            assert [experiment.experiment for experiment in reply.experiments] == keys
            found += [
                [
                    Assigned(one.variant, _reason(one.reason), known[one.variant])
                    for one, known in zip(unit.decisions, values, strict=True)
                ]
                for unit in reply.units
            ]
        return found


def _reason(number: assignment.DecisionReason.ValueType) -> str:
    return assignment.DecisionReason.Name(number).removeprefix("DECISION_REASON_")


def _values_of(experiment: assignment.AssignedExperiment) -> dict[str, Any]:
    """The value of each variant, and of none: that of the first variant, the control."""
    found: dict[str, Any] = {}
    for variant in experiment.variants:
        if variant.HasField("value"):
            found[variant.key] = json_format.MessageToDict(variant.value)
        elif variant.HasField("payload"):
            found[variant.key] = json_format.MessageToDict(variant.payload)
        else:
            found[variant.key] = variant.key
    return {"": next(iter(found.values())), **found}


def unit_context(context: Context) -> assignment.UnitContext:
    """The same unit in the words of AssignmentService."""
    known = dict(context)
    found = assignment.UnitContext()
    found.ids.add(type="user", id=known.pop("targetingKey"))
    found.ids.add(type="org", id=known["org"])
    attributes = Struct()
    attributes.update(known)
    found.attributes.CopyFrom(attributes)
    return found


def make_world(service: Service) -> None:
    """Everything, of both hashes."""
    for unit_type in ("user", "org"):
        request = schema.CreateUnitTypeRequest(parent=PARENT, unit_type_id=unit_type)
        request.unit_type.display_name = unit_type
        service.call(service.schema.CreateUnitType, request)
    for attribute, kind in ATTRIBUTES.items():
        asked = schema.CreateAttributeRequest(parent=PARENT, attribute_id=attribute)
        json_format.ParseDict({"type": f"ATTRIBUTE_TYPE_{kind}"}, asked.attribute)
        service.call(service.schema.CreateAttribute, asked)
    for dialect in DIALECTS:
        _make_layers(service, dialect)
        _make_experiments(service, dialect)


def _hash(dialect: str) -> str:
    return f"HASH_VERSION_{dialect.upper().replace('-', '_')}"


def _make_layers(service: Service, dialect: str) -> None:
    end = dialect.removeprefix("flagd")
    for name, unit_type in {"checkout": "user", "search": "user", "plans": "org"}.items():
        request = layers.CreateLayerRequest(parent=PARENT, layer_id=name + end)
        found = {"unit_type": unit_type, "hash_version": _hash(dialect)}
        json_format.ParseDict(found, request.layer)
        service.call(service.layers.CreateLayer, request)
    held = domains.CreateHoldoutRequest(parent=PARENT, holdout_id=f"quarter{end}")
    kept: dict[str, Any] = {
        "unit_type": "user",
        "slots": 700,
        "layers": [f"{PARENT}/layers/checkout{end}"],
        "hash_version": _hash(dialect),
    }
    json_format.ParseDict(kept, held.holdout)
    service.call(service.domains.CreateHoldout, held)


def _even(*variants: dict[str, Any]) -> list[dict[str, Any]]:
    weights = [10_000 // len(variants)] * len(variants)
    weights[-1] += 10_000 - sum(weights)
    return [
        {**variant, "weight": weight} for variant, weight in zip(variants, weights, strict=True)
    ]


def _compare(attribute: str, operator: str, *values: Any) -> dict[str, Any]:
    return {
        "compare": {
            "attribute": attribute,
            "operator": f"OPERATOR_{operator}",
            "values": list(values),
        }
    }


def _make_experiments(service: Service, dialect: str) -> None:
    end = dialect.removeprefix("flagd")

    def design(layer: str, slots: int, variants: list[dict[str, Any]], **more: Any) -> Any:
        return {
            "unit_type": "org" if layer == "plans" else "user",
            "layer": f"{PARENT}/layers/{layer}{end}",
            "hash_version": _hash(dialect),
            "traffic_slots": slots,
            "variants": variants,
            "control_variant": variants[0]["key"],
            **more,
        }

    keys = _even({"key": "control"}, {"key": "treatment"})
    service.create_experiment(
        f"button{end}", **design("checkout", 3000, keys, targeting=_TARGETING)
    )
    _force(service, f"button{end}")
    service.create_experiment(
        f"banner{end}",
        **design("checkout", 2000, _banners(), value_type="VALUE_TYPE_OBJECT"),
    )
    # A ramp: slots are added, and nobody who is in changes.
    service.update_experiment(f"banner{end}", traffic_slots=4000)
    service.create_experiment(
        f"price{end}",
        **design("checkout", 1500, _values(9.0, 9.5, 10.25), value_type="VALUE_TYPE_FLOAT"),
    )
    ranks = _values(1, 2, 3, 40)
    needs = [{"experiment": service.name(f"banner{end}"), "variants": ["v1", "v2"]}]
    service.create_experiment(
        f"rank{end}",
        **design("search", 6000, ranks, value_type="VALUE_TYPE_INTEGER", prerequisites=needs),
    )
    service.create_experiment(
        f"dark{end}",
        **design("search", 2000, _values(False, True), value_type="VALUE_TYPE_BOOLEAN"),
    )
    dropped = [*_values(False, True)[:1], {**_values(False, True)[1], "dropped": True}]
    service.update_experiment(f"dark{end}", variants=dropped)
    service.create_experiment(
        f"plan{end}",
        **design("plans", 9000, _values("café", "tea", ""), value_type="VALUE_TYPE_STRING"),
    )
    _make_server_only(service, end, lambda slots, **more: design("search", slots, keys, **more))
    service.create_experiment(f"stopped{end}", **design("plans", 500, keys))
    stopped = experiments.PauseExperimentRequest(name=service.name(f"stopped{end}"))
    service.call(service.experiments.PauseExperiment, stopped)
    service.create_experiment(f"killed{end}", **design("plans", 500, keys))
    killed = experiments.KillExperimentRequest(name=service.name(f"killed{end}"), reason="it hurt")
    service.call(service.experiments.KillExperiment, killed)


def _make_server_only(service: Service, end: str, design: Callable[..., Any]) -> None:
    targeting = _compare("app", "VERSION_GREATER_OR_EQUAL", "2.1.0")
    service.create_experiment(f"modern{end}", **design(1000, targeting=targeting))
    service.create_experiment(f"kept{end}", **design(1000, sticky=True))


_TARGETING = {
    "all": {
        "conditions": [
            _compare("country", "IN", "DE", "FR", "US"),
            {
                "any": {
                    "conditions": [
                        _compare("email", "ENDS_WITH", "@test.example", ".org"),
                        _compare("beta", "EQUAL", True),
                    ]
                }
            },
            {"negated": _compare("age", "LESS", 18)},
        ]
    }
}


def _values(*values: Any) -> list[dict[str, Any]]:
    return _even(*({"key": f"v{n}", "value": value} for n, value in enumerate(values)))


def _banners() -> list[dict[str, Any]]:
    return _even(
        *(
            {"key": f"v{n}", "payload": {"colour": colour, "size": n + 0.5, "tags": ["a", n]}}
            for n, colour in enumerate(("red", "green", "blue"))
        )
    )


def _force(service: Service, experiment_id: str) -> None:
    for n in range(20):
        request = experiments.SetForcedVariantRequest(experiment=service.name(experiment_id))
        forced = request.forced_variant
        forced.unit.type, forced.unit.id = "user", f"user-{n}"
        forced.variant, forced.note = ("control", "treatment")[n % 2], "try it"
        service.call(service.experiments.SetForcedVariant, request)
