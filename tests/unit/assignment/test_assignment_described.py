"""What replies say of an experiment is encoded when it is compiled, and then only joined."""

import json
from dataclasses import replace

from google.protobuf import json_format
from touchstone.assignment.v1 import assignment_service_pb2 as pb
from touchstone.assignment.v1.ruleset_pb2 import ExperimentRule
from touchstone_assignment.subject import Subject

from services.assignment.application.assign import AssignUnits, assign, explain
from services.assignment.application.snapshots import Snapshot, compile_snapshot
from services.assignment.domain.experiment import State, ValueType, Variant
from services.assignment.ports import ProjectConfig
from services.assignment.wire import encode_decisions
from services.assignment.wire.encode_decisions import Answering
from services.assignment.wire.ruleset import to_ruleset
from tests.unit.assignment.making import Make


class Describing:
    """Notes for which experiments it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int]] = []

    def __call__(self, rule: ExperimentRule) -> bytes:
        self.asked.append((rule.experiment, rule.config_version))
        return encode_decisions.description(rule)


def compiled(
    make: Make, describe: Describing, previous: Snapshot | None = None, version: int = 1
) -> Snapshot:
    variants = tuple(
        Variant(key, 5000, payload=json.dumps({"text": key, "list": [1, None]}))
        for key in ("control", "green")
    )
    experiments = {
        "button": make.experiment(State.RUNNING, variants=variants),
        "title": replace(make.experiment(State.STOPPED, "title"), config_version=version),
    }
    layer = make.layer().allocate("button", 10_000, make.at(2))
    ruleset = to_ruleset(ProjectConfig(3, experiments, {"checkout": layer}), "acme")
    return compile_snapshot(ruleset, previous, describe)


def test_payloads_are_encoded_once_however_many_calls_there_are(make: Make) -> None:
    describe = Describing()
    snapshot = compiled(make, describe)
    assert describe.asked == [("button", 1), ("title", 1)]
    for command in (
        AssignUnits([Subject({"user": "u1"})]),
        AssignUnits([Subject({"user": "u1"})], ("button", "x")),
    ):
        answering = Answering(snapshot, 1.5)
        plain = encode_decisions.assigned(answering, 1, assign(command, snapshot.evaluator))
        told = encode_decisions.explained(answering, 1, explain(command, snapshot.evaluator))
        for reply in map(pb.AssignResponse.FromString, (plain, told)):
            assert (reply.config_version, reply.config_age_s) == (3, 1.5)
            texts = [variant.payload["text"] for variant in reply.experiments[0].variants]
            assert texts == ["control", "green"]
            assert [e.experiment for e in reply.experiments[1:]] == list(command.experiments[1:])
            assert len(reply.units) == 1
    assert len(describe.asked) == 2


def test_a_reply_joins_what_was_encoded_and_looks_at_no_payload(make: Make) -> None:
    marked = pb.AssignResponse(experiments=[pb.AssignedExperiment(experiment="as encoded")])
    layer = make.layer().allocate("button", 10_000, make.at(2))
    config = ProjectConfig(1, {"button": make.experiment(State.RUNNING)}, {"checkout": layer})
    ruleset = to_ruleset(config, "acme")
    snapshot = compile_snapshot(ruleset, None, lambda _: marked.SerializeToString())
    columns = assign(AssignUnits([Subject({"user": "u1"})], ("button",)), snapshot.evaluator)
    reply = pb.AssignResponse.FromString(
        encode_decisions.assigned(Answering(snapshot, 0), 1, columns)
    )
    assert [e.experiment for e in reply.experiments] == ["as encoded"]


def test_only_what_changed_is_encoded_anew(make: Make) -> None:
    describe = Describing()
    first = compiled(make, describe)
    describe.asked.clear()
    compiled(make, describe, first)
    assert describe.asked == []
    compiled(make, describe, first, version=2)
    assert describe.asked == [("title", 2)]


def test_values_are_told_beside_keys_and_payloads(make: Make) -> None:
    layer = make.layer().allocate("button", 10_000, make.at(2))
    told = []
    for value_type, value, payload in (
        (ValueType.KEY, None, '{"a":1}'),
        (ValueType.INTEGER, "7", None),
        (ValueType.OBJECT, None, '{"a":[1,null]}'),
    ):
        variants = (
            Variant("control", 5000, payload=payload, value=value),
            Variant("green", 5000, payload=payload, value=value),
        )
        running = make.experiment(State.RUNNING, variants=variants, value_type=value_type)
        config = ProjectConfig(1, {"button": running}, {"checkout": layer})
        rule = to_ruleset(config, "acme").experiments[0]
        reply = pb.AssignResponse.FromString(encode_decisions.description(rule))
        told.append(json_format.MessageToDict(reply.experiments[0].variants[0]))
    assert told == [
        {"key": "control", "payload": {"a": 1.0}},
        {"key": "control", "value": 7.0},
        {"key": "control", "payload": {"a": [1.0, None]}},
    ]
