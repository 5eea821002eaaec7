"""Rows 20, 21, 22 and 69: changes under load, everybody at once, neighbours that are gone, a port
that is taken.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np
from touchstone.assignment.v1 import assignment_service_pb2, assignment_service_pb2_grpc
from touchstone.common.v1.unit_pb2 import UnitId

from tests.robustness.assigning import EXPERIMENTS, Answer, Row, Stage, on_stage
from tests.robustness.fault import SERVICE, Fault, Play, open_scene
from tests.robustness.faults import EventsProcess
from tests.robustness.model import Verdict

LOAD_THREADS = 4
CLIENTS, CONNECTIONS = 1_000, 50
RECOVERED_S = 30.0
SHED = frozenset({"UNAVAILABLE", "RESOURCE_EXHAUSTED"})


@dataclass
class _Load:
    """Clients that assign without rest; what each version was seen to say."""

    stage: Stage
    seen: dict[int, set[tuple[Row, ...]]] = field(default_factory=lambda: defaultdict(set))
    stopping: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        with self.stage.channel() as channel:
            while not self.stopping.is_set():
                try:
                    answer: Answer = self.stage.assign(channel=channel)
                except grpc.RpcError as error:
                    self.stage.history.complain("served", str(error)[:300])
                    return
                self.seen[answer.config_version].add(answer.rows)


def _flips(stage: Stage) -> None:
    """Every reply is what exactly the version that it names decides."""
    load = _Load(stage)
    stage.start("title")
    with ThreadPoolExecutor(LOAD_THREADS) as threads:
        running = [threads.submit(load.run) for _ in range(LOAD_THREADS)]
        for number in range(10 * stage.play.rounds):
            # Two changes one after the other: what mixes versions mixes these.
            for key in EXPERIMENTS:
                stage.ramp(key, 5_010 + 100 * number)
            time.sleep(float(stage.play.dice.uniform(0, 0.1)))
        load.stopping.set()
        for one in running:
            one.result()
    stage.expect("versions", len(load.seen) > stage.play.rounds, True)
    for version, said in load.seen.items():
        stage.expect("one version", len(said), 1)
        stage.expect("replay", stage.assign(version=version).rows in said, True)


def _everybody(stage: Stage) -> None:
    """A thousand clients come at once, after a restart: some are shed, all are served in time."""
    for number in range(stage.play.rounds):
        stage.process.kill()
        stage.process.start()
        stubs = [
            stage.stub(assignment_service_pb2_grpc, _channel(stage)) for _ in range(CONNECTIONS)
        ]
        clients = range(CLIENTS * number, CLIENTS * (number + 1))
        turns = [(stage, stubs[client % CONNECTIONS], client) for client in clients]
        begun = time.monotonic()
        first = [
            stub.Assign.future(_request(client), metadata=stage.metadata(), timeout=20)
            for _, stub, client in turns
        ]
        again = [turn for turn, call in zip(turns, first, strict=True) if not _served(stage, call)]
        with ThreadPoolExecutor(100) as threads:
            served = list(threads.map(lambda turn: _until_served(*turn), again))
        stage.expect("recovery", time.monotonic() - begun < RECOVERED_S, True)
        stage.expect("served", sum(served), len(again))
        stage.calls += CLIENTS
        stage.expect("recovery", stage.code(), "OK")


def _channel(stage: Stage) -> grpc.Channel:
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
    return grpc.insecure_channel(stage.process.address, options=options)


def _until_served(stage: Stage, stub: Any, client: int) -> bool:
    """Call again after a pause that grows, a little at random, until it is served."""
    dice = np.random.default_rng([stage.play.seed, client])
    end, pause_s = time.monotonic() + RECOVERED_S, 0.05
    while time.monotonic() < end:
        time.sleep(float(dice.uniform(0, pause_s)))
        pause_s = min(1.0, 2 * pause_s)
        if _served(stage, stub.Assign.future(_request(client), metadata=stage.metadata())):
            return True
    return False


def _request(client: int) -> assignment_service_pb2.AssignRequest:
    unit = assignment_service_pb2.UnitContext(ids=[UnitId(type="user", id=f"c{client}")])
    return assignment_service_pb2.AssignRequest(units=[unit], experiments=["button"])


def _served(stage: Stage, call: Any) -> bool:
    """Whether a call was answered; it may be shed, and nothing else."""
    error = call.exception()
    if error is not None and error.code().name not in SHED:
        stage.history.complain("code", f"{error.code().name}: {error.details()}")
    return error is None


def _neighbours(play: Play) -> Verdict:
    """Results and attribution are killed: assignment and ingest go on."""
    scene = open_scene(Play(play.folder / "ingest", SERVICE, 1, play.seed))
    neighbours = [
        EventsProcess(scene.process.data, f"services.{name}", service=name)
        for name in ("results", "attribution")
    ]

    def act(stage: Stage) -> None:
        for one in neighbours:
            one.begin()
        before = stage.assign().rows
        scene.start_traffic(clients=1, reads=False)
        for _ in range(stage.play.rounds):
            for one in neighbours:
                one.kill()
            for _again in range(20):
                code = stage.code()
                stage.expect("served", code, "OK")
                if code == "OK":
                    stage.expect("decisions", stage.assign().rows, before)
            for one in neighbours:
                one.begin()

    try:
        verdict = on_stage(act)(play)
        ingested = scene.verdict()
    finally:
        for process in (*neighbours, scene.process):
            process.kill()
    return Verdict(
        acknowledged=min(verdict.acknowledged, ingested.acknowledged),
        calls=verdict.calls + ingested.calls,
        faults=play.rounds,
        broken={**ingested.broken, **verdict.broken},
        examples=(*verdict.examples, *ingested.examples),
    )


def _taken(stage: Stage) -> None:
    """A second process on the port does not start, and the first goes on."""
    first = stage.process
    for _ in range(stage.play.rounds):
        second = EventsProcess(
            first.data.parent / "second",
            first.module,
            service="assignment",
            port=first.port,
            more=first.more | {"TOUCHSTONE_AUDIT_KEY_FILE": str(first.data / "audit.key")},
        )
        second.begin()
        end = time.monotonic() + 20
        while second.runs and time.monotonic() < end:
            stage.expect("served", stage.code(), "OK")
            time.sleep(0.1)
        if second.runs:
            second.kill()
            stage.history.complain("second", "two processes share one port")
        else:
            stage.expect("second", second.wait() != 0, True)
            stage.expect("second", "cannot listen on" in second.log_path.read_text(), True)
        stage.expect("served", stage.code(), "OK")


FLIPS = Fault(
    20,
    "the configuration changes under load",
    on_stage(_flips),
    twins={"mixes_versions": 1},
    short=1,
    rounds=20,
    long_twins=("mixes_versions",),
)
EVERYBODY = Fault(
    21,
    "a thousand clients return at once after a restart",
    on_stage(_everybody, TOUCHSTONE_MAX_CONCURRENT_RPCS="20"),
    twins={"fails_when_full": 1},
    short=1,
    rounds=4,
    long_twins=("fails_when_full",),
)
NEIGHBOURS = Fault(
    22,
    "results and attribution are gone",
    _neighbours,
    twins={"needs_results": 1},
    rounds=4,
)
TAKEN = Fault(
    69,
    "a second server on one port",
    on_stage(_taken),
    twins={"shares_port": 1},
    short=1,
    rounds=3,
    long_twins=("shares_port",),
)
