"""The assignment process over a PostgreSQL that can go away, and a client that remembers."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf.field_mask_pb2 import FieldMask
from touchstone.assignment.v1 import (
    assignment_service_pb2,
    assignment_service_pb2_grpc,
    experiment_pb2,
    experiment_service_pb2,
    experiment_service_pb2_grpc,
)
from touchstone.common.v1.unit_pb2 import UnitId

from shared.server.status import from_rpc_error
from shared.testing.postgres import PostgresServer, postgres_server
from tests.robustness.fault import PROJECTS, SERVICE, Play
from tests.robustness.faults import EventsProcess, make_key
from tests.robustness.history import History
from tests.robustness.model import Verdict
from tests.robustness.proxy import Network

UNITS = [f"u{number}" for number in range(200)]
EXPERIMENTS = ("button", "price", "title")
CALL_S = 10.0
WAIT_S = 30.0
Row = tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """What one Assign said: of every unit the variant and the reason in every experiment."""

    config_version: int
    age_s: float
    rows: tuple[Row, ...]


@dataclass
class Stage:
    """One play: the store behind a network, the process and the clients of two projects."""

    play: Play
    server: PostgresServer
    url: str
    process: EventsProcess
    network: Network
    keys: dict[str, str]
    history: History = field(default_factory=History)
    calls: int = 0

    def stub(self, service: Any, channel: grpc.Channel) -> Any:
        """A stub of the generated module of a service."""
        name = next(name for name in vars(service) if name.endswith("ServiceStub"))
        return getattr(service, name)(channel)

    @contextmanager
    def channel(self) -> Iterator[grpc.Channel]:
        """A connection of its own."""
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
        with grpc.insecure_channel(self.process.address, options=options) as channel:
            yield channel

    def metadata(self, project: str = PROJECTS[0]) -> tuple[tuple[str, str], ...]:
        """Who calls."""
        return (("authorization", f"Bearer {self.keys[project]}"),)

    def assign(
        self, project: str = PROJECTS[0], version: int = 0, channel: grpc.Channel | None = None
    ) -> Answer:
        """Ask for all units and experiments."""
        self.calls += 1
        with contextlib.ExitStack() as stack:
            channel = channel or stack.enter_context(self.channel())
            reply = self.stub(assignment_service_pb2_grpc, channel).Assign(
                request_of(version), metadata=self.metadata(project), timeout=CALL_S
            )
        return answer_of(reply)

    def code(self) -> str:
        """How an Assign ends."""
        try:
            self.assign()
        except grpc.RpcError as error:
            return from_rpc_error(error).code.value  # type: ignore[arg-type]
        return "OK"

    def start(self, key: str, project: str = PROJECTS[0], slots: int = 5_000) -> None:
        """Make and start an experiment."""
        halves = [experiment_pb2.Variant(key=name, weight=5000) for name in ("control", "green")]
        with self.channel() as channel:
            stub = self.stub(experiment_service_pb2_grpc, channel)
            made = stub.CreateExperiment(
                experiment_service_pb2.CreateExperimentRequest(
                    parent=f"projects/{project}",
                    experiment_id=key,
                    experiment=experiment_pb2.Experiment(variants=halves, traffic_slots=slots),
                ),
                metadata=self.metadata(project),
                timeout=CALL_S,
            )
            stub.StartExperiment(
                experiment_service_pb2.StartExperimentRequest(name=made.experiment.name),
                metadata=self.metadata(project),
                timeout=CALL_S,
            )

    def ramp(self, key: str, slots: int, project: str = PROJECTS[0]) -> None:
        """Give an experiment more slots."""
        name = f"projects/{project}/experiments/{key}"
        sent = experiment_pb2.Experiment(name=name, traffic_slots=slots)
        with self.channel() as channel:
            self.stub(experiment_service_pb2_grpc, channel).UpdateExperiment(
                experiment_service_pb2.UpdateExperimentRequest(
                    experiment=sent, update_mask=FieldMask(paths=["traffic_slots"])
                ),
                metadata=self.metadata(project),
                timeout=CALL_S,
            )

    @contextmanager
    def store_away(self) -> Iterator[None]:
        """Within the block nobody reaches the store."""
        self.network.close()
        try:
            yield
        finally:
            self.network = Network(self.server.port, self.play.seed, port=self.network.port)
            self.network.start()

    def expect(self, promise: str, told: object, wanted: object) -> None:
        """Complain when two things differ."""
        if told != wanted:
            self.history.complain(promise, f"{str(told)[:200]} instead of {str(wanted)[:200]}")

    def comes_true(self, promise: str, wanted: Any) -> None:
        """Complain when something is not so for long."""
        end = time.monotonic() + WAIT_S
        while time.monotonic() < end:
            with contextlib.suppress(grpc.RpcError):
                if wanted():
                    return
            time.sleep(0.1)
        self.history.complain(promise, f"not within {WAIT_S} s")

    def verdict(self) -> Verdict:
        """What was tried and which promises were broken."""
        return Verdict(
            self.calls,
            calls=self.calls,
            faults=self.play.rounds,
            broken=dict(self.history.complaints),
            examples=tuple(self.history.examples),
        )


def request_of(version: int = 0) -> assignment_service_pb2.AssignRequest:
    """All units and experiments."""
    return assignment_service_pb2.AssignRequest(
        units=[
            assignment_service_pb2.UnitContext(ids=[UnitId(type="user", id=unit)]) for unit in UNITS
        ],
        experiments=EXPERIMENTS,
        config_version=version,
    )


def answer_of(reply: assignment_service_pb2.AssignResponse) -> Answer:
    """What a reply says."""
    rows = tuple(
        tuple((one.variant, int(one.reason)) for one in unit.decisions) for unit in reply.units
    )
    return Answer(reply.config_version, reply.config_age_s, rows)


@contextmanager
def open_stage(play: Play, **more: str) -> Iterator[Stage]:
    """The process of a play over a database of its own, with an experiment of each project."""
    play.folder.mkdir(parents=True, exist_ok=True)
    module = play.module.replace(SERVICE, "services.assignment")
    with postgres_server() as server, server.fresh_database("state") as url:
        network = Network(server.port, play.seed)
        network.start()
        environment = {
            "TOUCHSTONE_DATABASE_URL": url.replace(f":{server.port}/", f":{network.port}/"),
            "TOUCHSTONE_ASSIGNMENT_HTTP_ADDRESS": "",
            "TOUCHSTONE_ASSIGNMENT_POLL_S": "0.2",
            "TOUCHSTONE_CREDENTIAL_CACHE_S": "0.5",
            **more,
        }
        process = EventsProcess(
            play.folder / "data", module, service="assignment", more=environment
        )
        keys = {project: make_key(process.data, project, url) for project in PROJECTS}
        stage = Stage(play, server, url, process, network, keys)
        try:
            process.start()
            for project in PROJECTS:
                stage.start("button", project)
            stage.start("price")
            yield stage
        finally:
            process.kill()
            stage.network.close()


def on_stage(act: Callable[[Stage], None], **more: str) -> Callable[[Play], Verdict]:
    """A play of an act; a call that nothing explains breaks a promise, too."""

    def play_it(play: Play) -> Verdict:
        with open_stage(play, **more) as stage:
            try:
                act(stage)
            except grpc.RpcError as error:
                stage.history.complain("served", str(error)[:300])
            return stage.verdict()

    return play_it
