"""What the tests of in-process assignment share: rules, and a service that does as it is told."""

from __future__ import annotations

import hashlib
import queue
import threading
import time
from concurrent import futures
from dataclasses import dataclass, field
from typing import Any

import grpc
from touchstone.assignment.v1 import assignment_service_pb2 as pb
from touchstone.assignment.v1 import assignment_service_pb2_grpc as pb_grpc
from touchstone.assignment.v1 import experiment_pb2, ruleset_pb2
from touchstone_assignment.local import LocalAssignment, Service, Settings

from tests.client.rig import eventually

PROJECT = "shop"
KEY = "tsk_right"
QUICK: dict[str, Any] = {"first_retry_s": 0.02, "longest_retry_s": 0.1}


def experiment(name="green", **more):
    """A running 50/50 experiment over the whole of a layer of its own."""
    fields = {
        "experiment": name,
        "config_version": 3,
        "serving": ruleset_pb2.SERVING_RUNNING,
        "unit_type": "user",
        "layer": name,
        "slots": [ruleset_pb2.Slots(first=0, end=10_000)],
        "salt": f"{name}-split",
        "hash_version": experiment_pb2.HASH_VERSION_FLAGD_V2,
        "value_type": experiment_pb2.VALUE_TYPE_KEY,
        "control": "off",
    }
    rule = ruleset_pb2.ExperimentRule(**(fields | more))
    if not rule.variants:
        for key in ("off", "on"):
            rule.variants.add(key=key, weight=5000).value.string_value = key
    return rule


def rules(*experiments, version=3, project=PROJECT, **more):
    """A ruleset of experiments, each in a layer of its own."""
    return ruleset_pb2.Ruleset(
        format=more.pop("format", 1),
        project=project,
        config_version=version,
        experiments=sorted(experiments, key=lambda rule: rule.experiment),
        layers=[
            ruleset_pb2.LayerRule(
                layer=rule.layer,
                unit_type=rule.unit_type,
                salt=f"{rule.layer}-cut",
                hash_version=experiment_pb2.HASH_VERSION_FLAGD_V2,
            )
            for rule in experiments
        ],
        **more,
    )


@dataclass
class Said:
    """One message of a stream: what is in force, and when it was confirmed (None: now)."""

    ruleset: ruleset_pb2.Ruleset
    digest: str | None = None
    confirmed_s: float | None = None


class FakeService(pb_grpc.AssignmentServiceServicer):
    """WatchConfig, GetIdList and Assign of a service whose rules a test sets."""

    def __init__(self, ruleset=None):
        self.said = Said(ruleset or rules(experiment()))
        self.watches: list[str] = []
        self.asked: list[pb.AssignRequest | pb.GetParametersRequest] = []
        self.lists: dict[str, bytes] = {}
        self.list_calls: list[str] = []
        self.lists_may_come = threading.Event()
        self.lists_may_come.set()
        self.pause_s = 0.0
        self._streams: list[queue.SimpleQueue[Said | None]] = []
        self._lock = threading.Lock()

    def say(self, ruleset, **more):
        """Send other rules to everybody who watches."""
        with self._lock:
            self.said = Said(ruleset, **more)
            for stream in self._streams:
                stream.put(self.said)

    def end_streams(self):
        """As a service does when their time is over."""
        with self._lock:
            for stream in self._streams:
                stream.put(None)
            self._streams = []

    @property
    def watching(self):
        """How many streams are open."""
        return len(self._streams)

    def WatchConfig(self, request, context):  # noqa: N802  gRPC's name
        if ("authorization", f"Bearer {KEY}") not in context.invocation_metadata():
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "the key is not known")
        mine: queue.SimpleQueue[Said | None] = queue.SimpleQueue()
        with self._lock:
            self.watches.append(request.known_digest)
            self._streams.append(mine)
            mine.put(self.said)
        context.add_callback(lambda: mine.put(None))
        known = request.known_digest
        while (said := mine.get()) is not None:
            body = said.ruleset.SerializeToString(deterministic=True)
            digest = said.digest or hashlib.sha256(body).hexdigest()
            confirmed_s = time.time() if said.confirmed_s is None else said.confirmed_s
            reply = pb.WatchConfigResponse(
                config_version=said.ruleset.config_version,
                ruleset=b"" if digest == known else body,
                digest=digest,
            )
            reply.confirm_time.FromMilliseconds(int(confirmed_s * 1000))
            known = digest
            yield reply
        context.abort(grpc.StatusCode.UNAVAILABLE, "open the stream again")

    def GetIdList(self, request, context):  # noqa: N802  gRPC's name
        self.list_calls.append(request.digest)
        self.lists_may_come.wait(60)
        content = self.lists.get(request.digest)
        if content is None:
            context.abort(grpc.StatusCode.NOT_FOUND, "no such list")
            return
        for start in range(0, len(content), 80):
            yield pb.GetIdListResponse(fingerprints=content[start : start + 80])

    def Assign(self, request, context):  # noqa: N802  gRPC's names
        self.asked.append(request)
        time.sleep(self.pause_s)
        reply = pb.AssignResponse(config_version=9)
        reply.experiments.add(experiment=request.experiments[0])
        unit = reply.units.add()
        unit.decisions.add(variant="on", reason=pb.DECISION_REASON_STICKY, tainted=True)
        return reply

    def GetParameters(self, request, context):  # noqa: N802  gRPC's name
        self.asked.append(request)
        reply = pb.GetParametersResponse(config_version=9)
        value = reply.units.add().values["colour"]
        value.value.string_value, value.experiment, value.variant = "kept", "green", "on"
        return reply


@dataclass
class Running:
    """A fake service that listens, and may stop and start again on its port."""

    fake: FakeService = field(default_factory=FakeService)
    port: int = 0
    server: grpc.Server | None = None

    def start(self):
        self.server = grpc.server(
            futures.ThreadPoolExecutor(16), options=[("grpc.so_reuseport", 0)]
        )
        pb_grpc.add_AssignmentServiceServicer_to_server(self.fake, self.server)
        self.port = self.server.add_insecure_port(f"127.0.0.1:{self.port}")
        self.server.start()

    def stop(self):
        if self.server is not None:
            self.fake.end_streams()
            self.server.stop(0).wait()
            self.server = None

    def local(self, key=KEY, project=PROJECT, **settings):
        """A LocalAssignment that follows it, not started."""
        return LocalAssignment(
            Service(f"127.0.0.1:{self.port}", key), Settings(project, **(QUICK | settings))
        )


def follows(local, version):
    """Waits until the version decides."""
    eventually(lambda: local.status().config_version == version)
