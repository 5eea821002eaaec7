"""What replies say of an experiment is encoded when it is compiled, and then only joined."""

import json

from touchstone.assignment.v1 import assignment_service_pb2 as pb

from services.assignment import encode_decisions
from services.assignment.application.assign import AssignUnits, assign, explain
from services.assignment.domain.compile import Snapshot, compile_snapshot
from services.assignment.domain.experiment import Experiment, State, Variant
from tests.unit.assignment.making import Make


class Describing:
    """Notes for which experiments it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int]] = []

    def __call__(self, experiment: Experiment) -> bytes:
        self.asked.append((experiment.experiment_id, experiment.config_version))
        return encode_decisions.description(experiment)


def compiled(
    make: Make, describe: Describing, previous: Snapshot | None = None, **changes: str
) -> Snapshot:
    variants = tuple(
        Variant(key, 5000, payload=json.dumps({"text": key, "list": [1, None]}))
        for key in ("control", "green")
    )
    experiments = {
        "button": make.experiment(State.RUNNING, variants=variants),
        "title": make.experiment(State.STOPPED, "title", **changes),
    }
    return compile_snapshot(3, experiments, {"checkout": make.layer()}, previous, describe)


def test_payloads_are_encoded_once_however_many_calls_there_are(make: Make) -> None:
    describe = Describing()
    snapshot = compiled(make, describe)
    assert describe.asked == [("button", 1), ("title", 1)]
    for command in (AssignUnits([{"user": "u1"}]), AssignUnits([{"user": "u1"}], ("button", "x"))):
        plain = encode_decisions.assigned(snapshot, 1, assign(command, snapshot))
        told = encode_decisions.explained(snapshot, 1, explain(command, snapshot))
        for reply in (plain, told):
            texts = [variant.payload["text"] for variant in reply.experiments[0].variants]
            assert texts == ["control", "green"]
            assert [e.experiment for e in reply.experiments[1:]] == list(command.experiments[1:])
            assert len(reply.units) == 1
    assert len(describe.asked) == 2


def test_a_reply_joins_what_was_encoded_and_looks_at_no_payload(make: Make) -> None:
    marked = pb.AssignResponse(experiments=[pb.AssignedExperiment(experiment="as encoded")])
    experiments = {"button": make.experiment(State.RUNNING)}
    layers = {"checkout": make.layer()}
    snapshot = compile_snapshot(1, experiments, layers, None, lambda _: marked.SerializeToString())
    columns = assign(AssignUnits([{"user": "u1"}], ("button",)), snapshot)
    reply = encode_decisions.assigned(snapshot, 1, columns)
    assert [e.experiment for e in reply.experiments] == ["as encoded"]


def test_only_what_changed_is_encoded_anew(make: Make) -> None:
    describe = Describing()
    first = compiled(make, describe)
    describe.asked.clear()
    compiled(make, describe, first)
    assert describe.asked == []
    compiled(make, describe, first, display_name="New")
    assert describe.asked == [("title", 1)]
