"""Rows 4 and 5: the reply is lost, and the client asks again with the same request id."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
from touchstone.assignment.v1 import layer_pb2, layer_service_pb2, layer_service_pb2_grpc

from shared.errors import DomainError
from shared.server.status import from_rpc_error
from tests.robustness.fault import PROJECTS, SERVICE, Fault, Play
from tests.robustness.faults import EventsProcess, make_key
from tests.robustness.history import History
from tests.robustness.model import Verdict
from tests.robustness.proxy import Network
from tests.robustness.traffic import CHANNEL

LOST_S = 0.3
CALL_S = 10.0
PROJECT = PROJECTS[0]


def request_of(request_id: str, title: str) -> layer_service_pb2.CreateLayerRequest:
    """A request for a layer of that id and title."""
    return layer_service_pb2.CreateLayerRequest(
        parent=f"projects/{PROJECT}",
        layer_id=request_id,
        layer=layer_pb2.Layer(display_name=title),
        request_id=request_id,
    )


@dataclass(frozen=True, slots=True)
class Layers:
    """A client that makes layers, through one network or another."""

    key: str
    history: History

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Who it is."""
        return (("authorization", f"Bearer {self.key}"),)

    def make(self, port: int, request_id: str, title: str) -> layer_pb2.Layer:
        """Make the layer of that id; the reply."""
        with grpc.insecure_channel(f"127.0.0.1:{port}", options=CHANNEL) as channel:
            stub = layer_service_pb2_grpc.LayerServiceStub(channel)
            reply = stub.CreateLayer(
                request_of(request_id, title),
                timeout=CALL_S,
                metadata=self.metadata,
                wait_for_ready=True,
            )
        return reply.layer

    def stored(self, port: int) -> dict[str, layer_pb2.Layer]:
        """Every layer that there is, by its id."""
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub = layer_service_pb2_grpc.LayerServiceStub(channel)
            reply = stub.ListLayers(
                layer_service_pb2.ListLayersRequest(parent=f"projects/{PROJECT}", page_size=1_000),
                timeout=10,
                metadata=self.metadata,
            )
        return {layer.name.rsplit("/", 1)[1]: layer for layer in reply.layers}


def _lost_replies(play: Play) -> Verdict:
    """Lose replies: cut off on the way, or by a kill -9 between commit and reply."""
    play.folder.mkdir(parents=True, exist_ok=True)
    module = play.module.replace(SERVICE, "services.assignment")
    process = EventsProcess(play.folder / "data", module, service="assignment")
    layers = Layers(make_key(process.data, PROJECT), History())
    process.start()
    network = Network(process.port, play.seed)
    network.start()
    dice = play.dice
    replies = []
    try:
        for number in range(play.rounds):
            request_id = f"layer-{number}"
            _lose(process, network, layers, request_id, dice)
            replies.append(_again(process, layers, request_id))
            _other_body(process, layers, request_id)
        _compare(layers, layers.stored(process.port), replies)
    finally:
        network.close()
        process.kill()
    history = layers.history
    return Verdict(
        len(replies),
        calls=4 * play.rounds,
        unknown=play.rounds,
        faults=play.rounds,
        broken=dict(history.complaints),
        examples=tuple(history.examples),
    )


def _lose(
    process: EventsProcess,
    network: Network,
    layers: Layers,
    request_id: str,
    dice: np.random.Generator,
) -> None:
    """Ask, and never hear the answer; half of the times the process dies as well."""
    network.swallow = False
    with grpc.insecure_channel(f"127.0.0.1:{network.port}") as channel:
        grpc.channel_ready_future(channel).result(10)
        network.swallow = True
        stub = layer_service_pb2_grpc.LayerServiceStub(channel)
        asked = stub.CreateLayer.future(
            request_of(request_id, "first"), timeout=10, metadata=layers.metadata
        )
        time.sleep(float(dice.uniform(0.002, LOST_S)))
        if dice.random() < 0.5:
            process.kill()
            process.start()
        network.reset()
        if asked.code() is grpc.StatusCode.OK:
            layers.history.complain("network", "a reply was not lost")
    network.swallow = False


def _again(process: EventsProcess, layers: Layers, request_id: str) -> layer_pb2.Layer:
    """Ask twice more: both replies are the first one's."""
    answers = []
    for _ in range(2):
        try:
            answers.append(layers.make(process.port, request_id, "first"))
        except grpc.RpcError as error:
            what = told(error)
            layers.history.complain("retry", f"{request_id}: {what.reason}: {what.message}")
    if len(answers) == 2 and answers[0] != answers[1]:
        layers.history.complain("reply", f"{answers[0]} is not {answers[1]}")
    return answers[0] if answers else layer_pb2.Layer()


def _other_body(process: EventsProcess, layers: Layers, request_id: str) -> None:
    """The same request id for something else is refused, with its reason."""
    try:
        layers.make(process.port, request_id, "second")
    except grpc.RpcError as error:
        reason = told(error).reason
        if reason != "REQUEST_ID_REUSED" or error.code() is not grpc.StatusCode.INVALID_ARGUMENT:
            layers.history.complain("reused", f"{request_id}: {error.code()} {reason}")
    else:
        layers.history.complain("reused", f"{request_id} was answered with another body")


def told(error: Any) -> DomainError:
    """What a call ended with; an error of gRPC is a call as well, which its type does not say."""
    return from_rpc_error(error)


def _compare(
    layers: Layers, stored: dict[str, layer_pb2.Layer], replies: list[layer_pb2.Layer]
) -> None:
    told = {reply.name.rsplit("/", 1)[1]: reply for reply in replies if reply.name}
    for name, reply in told.items():
        if stored.get(name) != reply:
            layers.history.complain("altered", f"{name}: told {reply}, stored {stored.get(name)}")
    for name in stored.keys() - told.keys() - {"default"}:
        layers.history.complain("invented", name)


LOST_REPLY = Fault(
    4,
    "the reply to a change is lost, and the client asks again",
    _lost_replies,
    twins={"no_replay": 2},
    short=2,
    rounds=60,
)
OTHER_BODY = Fault(
    5,
    "a request id comes again with another body",
    _lost_replies,
    twins={"no_body_digest": 1},
)
