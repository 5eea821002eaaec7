"""What is taken for certain keeps the contract, and what breaks it is refused all the same."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
from buf.validate import validate_pb2
from hypothesis import given
from hypothesis import strategies as st
from touchstone.assignment.v1 import assignment_service_pb2 as pb
from touchstone.assignment.v1 import (
    domain_pb2,
    domain_service_pb2,
    experiment_pb2,
    experiment_service_pb2,
    layer_pb2,
    layer_service_pb2,
)
from touchstone.common.v1.unit_pb2 import UnitId

from services.assignment.application.snapshots import Snapshot
from services.assignment.wire import decode_assign, decode_experiment, decode_resources
from shared.errors import Code, DomainError
from shared.server.validation import RequestValidator

VALIDATOR = RequestValidator()
SNAPSHOT = cast(Snapshot, SimpleNamespace(reading=frozenset()))
types = st.sampled_from(["user", "device_2", "u" * 32, "u" * 33, "", "User", "user\n", "ü"])
names = st.text(max_size=5) | st.sampled_from(["é" * 64, "😀" * 64, "😀" * 65, "x" * 257, "\x7f"])
ids = st.builds(UnitId, type=types, id=names)
units = st.builds(pb.UnitContext, ids=st.lists(ids, max_size=3))
keys = st.sampled_from(["button", "a" * 63, "a" * 64, "", "B", "a\n", "button"])
requests = st.builds(
    pb.AssignRequest,
    units=st.lists(units, max_size=3),
    experiments=st.lists(keys, max_size=3),
    config_version=st.sampled_from([0, 1, -1]),
)


@given(requests)
def test_a_request_is_refused_exactly_when_the_contract_says_so(request: pb.AssignRequest) -> None:
    twice = any(len({i.type for i in unit.ids}) < len(unit.ids) for unit in request.units)
    refused = outcome(lambda: decode_assign.assign(request, SNAPSHOT, 0.0, VALIDATOR))
    wanted = outcome(lambda: VALIDATOR.check(request, per_item=""))
    assert refused == (wanted or (Code.INVALID_ARGUMENT if twice else None))


def test_a_salt_in_a_request_that_makes_something_is_refused() -> None:
    experiment = experiment_service_pb2.CreateExperimentRequest(
        experiment=experiment_pb2.Experiment(salt="mine")
    )
    layer = layer_service_pb2.CreateLayerRequest(layer=layer_pb2.Layer(salt="mine"))
    holdout = domain_service_pb2.CreateHoldoutRequest(
        holdout=domain_pb2.Holdout(salt="mine", slots=1)
    )
    for field, make in (
        ("experiment.salt", lambda: decode_experiment.create_experiment(experiment, "p")),
        ("layer.salt", lambda: decode_resources.create_layer(layer, "p")),
        ("holdout.salt", lambda: decode_resources.create_holdout(holdout, "p")),
    ):
        with pytest.raises(DomainError) as refused:
            make()
        assert refused.value.message.startswith(f"{field} is 'mine'; allowed: none")


def outcome(call: Callable[[], object]) -> Code | None:
    """The code that a call fails with."""
    try:
        call()
    except DomainError as error:
        return error.code
    return None


def test_a_certain_request_is_not_held_against_the_rules() -> None:
    request = pb.AssignRequest(
        units=[pb.UnitContext(ids=[UnitId(type="user", id="ü 1"), UnitId(type="device", id="d")])],
        experiments=["button"],
    )
    never = cast(RequestValidator, None)
    command = decode_assign.assign(request, SNAPSHOT, 0.0, never)
    assert command.units[0].ids == {"user": "ü 1", "device": "d"}


@pytest.mark.parametrize("number", [0, decode_assign.MOST_UNITS + 1])
def test_too_few_and_too_many_units_are_refused(number: int) -> None:
    one = pb.UnitContext(ids=[UnitId(type="user", id="u")])
    with pytest.raises(DomainError, match="units"):
        decode_assign.assign(pb.AssignRequest(units=[one] * number), SNAPSHOT, 0.0, VALIDATOR)


def test_the_numbers_are_those_of_the_contract() -> None:
    def most(message: Any, name: str) -> int:
        options = message.DESCRIPTOR.fields_by_name[name].GetOptions()
        return int(options.Extensions[validate_pb2.field].repeated.max_items)

    assert most(pb.AssignRequest, "units") == decode_assign.MOST_UNITS
    assert most(pb.AssignRequest, "experiments") == decode_assign.MOST_EXPERIMENTS
    assert most(pb.UnitContext, "ids") == decode_assign.MOST_IDS
    rules = UnitId.DESCRIPTOR.fields_by_name["id"].GetOptions().Extensions[validate_pb2.field]
    assert rules.string.max_bytes == 4 * decode_assign.MOST_CHARACTERS
