"""A real assignment service in a process of its own, with a project to decide about."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from dataclasses import dataclass

import grpc
from touchstone.assignment.v1 import assignment_service_pb2_grpc as assignment_grpc
from touchstone.assignment.v1 import (
    audience_pb2,
    audience_service_pb2,
    audience_service_pb2_grpc,
    condition_pb2,
    domain_pb2,
    domain_service_pb2,
    domain_service_pb2_grpc,
    experiment_pb2,
    experiment_service_pb2,
    experiment_service_pb2_grpc,
    layer_pb2,
    layer_service_pb2,
    layer_service_pb2_grpc,
)
from touchstone.common.v1.unit_pb2 import UnitId
from touchstone_assignment.local import LocalAssignment, Service, Settings

from shared.testing.ports import free_port
from tests.client.local_rig import QUICK
from tests.client.rig import KeyedService
from tests.robustness.faults import PROJECT

PARENT = f"projects/{PROJECT}"


@dataclass
class AssignmentProcess(KeyedService):
    """An assignment service, not started yet, with a key of the project's owner."""

    module: str = "services.assignment"
    service: str = "assignment"

    def __post_init__(self):
        super().__post_init__()
        self.http = f"127.0.0.1:{free_port()}"
        self.more = {"TOUCHSTONE_ASSIGNMENT_HTTP_ADDRESS": self.http}

    def flag(self, key, context):
        """What OFREP answers for a flag."""
        request = urllib.request.Request(
            f"http://{self.http}/ofrep/v1/evaluate/flags/{key}",
            json.dumps({"context": context}).encode(),
            {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as reply:
                return json.load(reply)
        except urllib.error.HTTPError as error:
            return json.load(error)

    def call(self, stub, method, request):
        """One call with the key."""
        with grpc.insecure_channel(self.address) as channel:
            made = stub(channel)
            metadata = (("authorization", f"Bearer {self.key}"),)
            return getattr(made, method)(request, timeout=60, metadata=metadata)

    def experiments(self, method, **fields):
        """One call of ExperimentService."""
        request = getattr(experiment_service_pb2, f"{method}Request")(**fields)
        return self.call(experiment_service_pb2_grpc.ExperimentServiceStub, method, request)

    def run(self, name, **fields):
        """Make an experiment and start it."""
        wanted = {"variants": halves("off", "on")} | fields
        self.experiments(
            "CreateExperiment",
            parent=PARENT,
            experiment_id=name,
            experiment=experiment_pb2.Experiment(**wanted),
        )
        self.experiments("StartExperiment", name=f"{PARENT}/experiments/{name}")

    def assign(self, method, request):
        """One call of AssignmentService."""
        return self.call(assignment_grpc.AssignmentServiceStub, method, request)

    def local(self, **settings):
        """A LocalAssignment that follows it, not started."""
        return LocalAssignment(
            Service(self.address, self.key), Settings(PROJECT, **(QUICK | settings))
        )


def halves(*keys, **more):
    """Variants of the same weight."""
    weight = 10_000 // len(keys)
    return [experiment_pb2.Variant(key=key, weight=weight, **more) for key in keys]


def furnish(service):
    """Layers, parameters, a holdout, an audience, and experiments of every rule that decides."""
    layers = layer_service_pb2_grpc.LayerServiceStub
    layer = layer_pb2.Layer(parameters=[layer_pb2.Parameter(key="colour")])
    layer.parameters[0].default_value.string_value = "red"
    for name, made in (
        ("shared", layer),
        ("third", layer_pb2.Layer(hash_version=experiment_pb2.HASH_VERSION_FLAGD_V3)),
    ):
        request = layer_service_pb2.CreateLayerRequest(parent=PARENT, layer_id=name, layer=made)
        service.call(layers, "CreateLayer", request)
    nordic = condition_pb2.Condition()
    nordic.compare.attribute = "country"
    nordic.compare.operator = condition_pb2.OPERATOR_IN
    for country in ("SE", "NO"):
        nordic.compare.values.add(string_value=country)
    audience = audience_pb2.Audience(condition=nordic)
    service.call(
        audience_service_pb2_grpc.AudienceServiceStub,
        "CreateAudience",
        audience_service_pb2.CreateAudienceRequest(
            parent=PARENT, audience_id="nordic", audience=audience
        ),
    )
    in_audience = condition_pb2.Condition(audience=f"{PARENT}/audiences/nordic")
    green = halves("off", "on")
    green[1].payload["colour"] = "green"
    service.run("one", layer=f"{PARENT}/layers/shared", traffic_slots=3000, variants=green)
    service.run("two", layer=f"{PARENT}/layers/shared", traffic_slots=4000)
    service.run(
        "three",
        layer=f"{PARENT}/layers/third",
        hash_version=experiment_pb2.HASH_VERSION_FLAGD_V3,
        variants=halves("a", "b", "c", "d"),
    )
    service.run("aimed", targeting=in_audience)
    service.run(
        "behind",
        prerequisites=[
            experiment_pb2.Prerequisite(experiment=f"{PARENT}/experiments/three", variants=["a"])
        ],
    )
    service.run("paused")
    service.experiments("PauseExperiment", name=f"{PARENT}/experiments/paused")
    service.run("killed")
    service.experiments("KillExperiment", name=f"{PARENT}/experiments/killed", reason="fire")
    service.experiments(
        "SetForcedVariant",
        experiment=f"{PARENT}/experiments/one",
        forced_variant=experiment_service_pb2.ForcedVariant(
            unit=UnitId(type="user", id="u7"), variant="on"
        ),
    )
    service.run("kept", sticky=True)
    holdout = domain_pb2.Holdout(slots=500, experiments=[f"{PARENT}/experiments/two"])
    service.call(
        domain_service_pb2_grpc.DomainServiceStub,
        "CreateHoldout",
        domain_service_pb2.CreateHoldoutRequest(parent=PARENT, holdout_id="quiet", holdout=holdout),
    )
