"""What is answered by columns is answered, byte for byte, as it is unit by unit."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message import DecodeError
from google.protobuf.struct_pb2 import Struct
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from touchstone.assignment.v1 import assignment_service_pb2 as pb
from touchstone.common.v1.unit_pb2 import UnitId

from services.assignment.application.assign import assign
from services.assignment.application.assign_many import FEWEST, assign_many
from services.assignment.application.assigned_sample import EVERY
from services.assignment.application.snapshots import Snapshot, compile_snapshot
from services.assignment.domain.limits import LIMITS
from services.assignment.wire import assign_columns, decode_assign, encode_decisions
from services.assignment.wire.encode_decisions import Answering
from shared.errors import DomainError
from shared.server.validation import RequestValidator
from tests.contract.serving_world import open_world
from tests.unit.assignment import ruling

VALIDATOR = RequestValidator()
PLAIN = [f"user-{number}" for number in range(2 * FEWEST)]


def snapshot(*experiments: dict[str, Any], **parts: Any) -> Snapshot:
    """Experiments in a layer each."""
    rules = ruling.ruleset(
        *[ruling.experiment(**{"layer": one["key"], **one}) for one in experiments],
        layers=[ruling.layer(one["key"]) for one in experiments],
        **parts,
    )
    return compile_snapshot(rules, None, encode_decisions.description)


# The first two are decided by an id, the others need more than that.
EXPERIMENTS: tuple[dict[str, Any], ...] = (
    {
        "key": "button",
        "slots": ruling.slots((0, 3000), (5000, 9000)),
        "forced": [{"unit_type": "user", "unit_id": "user-7", "variant": "green"}],
    },
    {"key": "colour", "hash_version": ruling.FLAGD_V3, "bandit": True},
    {"key": "sticky", "sticky": True},
    {"key": "linked", "anonymous_unit_type": "device"},
    {"key": "abroad", "targeting": ruling.country("NL")},
    {"key": "next", "prerequisites": [{"experiment": "button", "variants": ["green"]}]},
    {"key": "paused", "serving": 2, "slots": []},
)
SNAPSHOT = snapshot(*EXPERIMENTS, holdouts=[ruling.holdout(share=1500)])


def by_columns(body: bytes, using: Snapshot = SNAPSHOT) -> bytes | None:
    """The reply by columns; None when the request is not answered so."""
    command = assign_columns.assign_many(body)
    columns = command and assign_many(command, using.evaluator)
    return encode_decisions.assigned_many(Answering(using, 1.5), columns) if columns else None


def one_by_one(body: bytes, using: Snapshot = SNAPSHOT) -> bytes | str:
    """The reply unit by unit, or what it is refused for."""
    try:
        request = pb.AssignRequest.FromString(body)
        command = decode_assign.assign(request, using, 0.0, VALIDATOR)
        columns = assign(command, using.evaluator)
    except (DomainError, DecodeError) as error:
        return str(error)
    return encode_decisions.assigned(Answering(using, 1.5), len(command.units), columns)


def request(ids: Sequence[str], *experiments: str, kind: str = "user", **more: Any) -> bytes:
    """A request of units of one id each."""
    units = [pb.UnitContext(ids=[UnitId(type=kind, id=one)]) for one in ids]
    return pb.AssignRequest(units=units, experiments=experiments, **more).SerializeToString()


@pytest.mark.parametrize("experiments", [["button"], ["colour"], ["colour", "button"]])
@pytest.mark.parametrize(
    "ids",
    [PLAIN, ["x" * 60] * 800, [f"{'y' * (n % 40)}{n}" for n in range(900)], ["50%", " ~"] * 400],
    ids=["plain", "long", "mixed", "percent"],
)
def test_plain_requests_are_answered_by_columns(experiments: list[str], ids: list[str]) -> None:
    body = request(ids, *experiments)
    assert by_columns(body) == one_by_one(body)


def test_all_that_can_enrol_are_answered_by_columns() -> None:
    using = snapshot({"key": "b"}, {"key": "a"})
    body = request(PLAIN)
    assert by_columns(body, using) == one_by_one(body, using)


def with_one(change: Callable[[pb.UnitContext], object]) -> bytes:
    """Plain units, the hundredth of which is changed."""
    sent = pb.AssignRequest.FromString(request(PLAIN, "button"))
    change(sent.units[99])
    return sent.SerializeToString()


def written(size: int) -> bytes:
    """A unit whose id has so many bytes, with one byte for each length whatever it is."""
    whole = size + len("user") + 6
    return bytes([10, whole, 10, whole - 2, 10, 4]) + b"user" + bytes([18, size]) + b"x" * size


NOT_BY_COLUMNS = {
    "few": request(PLAIN[: FEWEST - 1], "button"),
    "few an experiment": request(PLAIN[:-1], "button", "colour"),
    "too many": request(["u"] * (decode_assign.MOST_UNITS + 1), "button"),
    "explained": request(PLAIN, "button", explain=True),
    "an old version": request(PLAIN, "button", config_version=3),
    "a time": request(PLAIN, "button", time={"seconds": 5}),
    "the same twice": request(PLAIN, "button", "button"),
    "unknown": request(PLAIN, "nowhere"),
    "no name": request(PLAIN, "Button"),
    "sticky": request(PLAIN, "button", "sticky"),
    "linked": request(PLAIN, "linked"),
    "targeted": request(PLAIN, "abroad"),
    "with a prerequisite": request(PLAIN, "next"),
    "paused": request(PLAIN, "paused"),
    "all that can enrol, some of them sticky": request(PLAIN * 6),
    "another unit type": request(PLAIN, "button", kind="device"),
    "no unit type": request(PLAIN, "button", kind="User"),
    "attributes": with_one(lambda unit: unit.attributes.update({"country": "NL"})),
    "empty attributes": with_one(lambda unit: unit.attributes.CopyFrom(Struct())),
    "two ids": with_one(lambda unit: unit.ids.add(type="device", id="d")),
    "no ids": with_one(lambda unit: unit.ClearField("ids")),
    "another type among them": with_one(lambda unit: setattr(unit.ids[0], "type", "uses")),
    "an empty id": with_one(lambda unit: setattr(unit.ids[0], "id", "")),
    "a control character": with_one(lambda unit: setattr(unit.ids[0], "id", "a\x01b")),
    "delete": with_one(lambda unit: setattr(unit.ids[0], "id", "\x7f")),
    "not ASCII": with_one(lambda unit: setattr(unit.ids[0], "id", "café")),
    "a long id": with_one(lambda unit: setattr(unit.ids[0], "id", "x" * 200)),
    "too long an id": with_one(lambda unit: setattr(unit.ids[0], "id", "x" * 257)),
    "an unknown field of the request": request(PLAIN, "button") + b"\x7a\x01x",
    "no text": request(PLAIN, "button").replace(b"user-99", b"user-\xff9"),
    "a bad end": request(PLAIN, "button") + b"\x0f",
    "no bytes": b"",
    "an empty id that is written": request(PLAIN) + written(0) + request([], "button"),
    "a length of 128 in one byte": request(PLAIN) + written(120) + request([], "button"),
}


def test_units_are_written_as_these_tests_write_them() -> None:
    assert written(117) == request(["x" * 117])
    assert by_columns(request(PLAIN) + written(117) + request([], "button"))


@pytest.mark.parametrize("body", NOT_BY_COLUMNS.values(), ids=NOT_BY_COLUMNS)
def test_whatever_is_odd_is_left_to_the_usual_way(body: bytes) -> None:
    assert by_columns(body) is None


def test_what_is_decided_by_columns_is_never_more_than_is_allowed() -> None:
    most = decode_assign.MOST_UNITS // FEWEST
    assert most * decode_assign.MOST_UNITS <= LIMITS.max_decisions
    names = [f"e{number}" for number in range(most + 1)]
    using = snapshot(*[{"key": name} for name in names])
    ids = ["u"] * decode_assign.MOST_UNITS
    assert by_columns(request(ids, *names[:-1]), using)
    assert by_columns(request(ids, *names), using) is None


IDS = st.text("ab\n\x12\x04 %~é\x7f\x00", max_size=6) | st.sampled_from(
    ["\n\x04user\x12\x01a", "x" * 115, "x" * 116, "x" * 117, "x" * 118, "x" * 119, "y" * 257]
)
TYPES = st.sampled_from(["user", "user", "user", "u", "", "us", "device"])
ODD = st.builds(
    lambda ids: pb.UnitContext(ids=ids), st.lists(st.builds(UnitId, type=TYPES, id=IDS), max_size=2)
)
KEYS = st.sampled_from(["button", "colour", "sticky", "abroad", "nowhere", "B"])
PARTS = st.builds(
    pb.AssignRequest,
    experiments=st.lists(KEYS, max_size=3),
    explain=st.booleans(),
    config_version=st.sampled_from([0, 0, -1, 3]),
).map(lambda sent: sent.SerializeToString())


def agree(body: bytes) -> None:
    """A reply by columns is the reply; what is refused has none."""
    found = by_columns(body)
    assert found is None or found == one_by_one(body)


@settings(deadline=None, max_examples=200)
@given(st.lists(ODD, max_size=3), st.integers(1, FEWEST), st.lists(KEYS, max_size=3), PARTS)
def test_odd_units_among_plain_ones_are_never_answered_otherwise(
    odd: list[pb.UnitContext], place: int, experiments: list[str], tail: bytes
) -> None:
    sent = pb.AssignRequest.FromString(request(PLAIN, *experiments))
    units = [*sent.units[:place], *odd, *sent.units[place:]]
    body = pb.AssignRequest(units=units, experiments=experiments).SerializeToString()
    agree(body)
    agree(body + tail)
    agree(tail + body)


@settings(deadline=None, max_examples=100)
@given(IDS, st.integers(FEWEST, 2 * FEWEST), st.sampled_from(["user", "u", "device"]))
def test_any_ids_are_answered_alike(unit_id: str, number: int, kind: str) -> None:
    agree(request(list(islice(cycle([unit_id, "plain"]), number)), "button", kind=kind))


BODY = request(PLAIN[: FEWEST + 6], "button")
CHANGES = st.lists(
    st.tuples(
        st.integers(0, len(BODY) - 1),
        st.integers(0, 2),
        st.sampled_from([b"", b"\n", b"\x0b", b"\x0e", b"\x12", b"\x00", b"\x80", b"\xff", b"u"])
        | st.binary(max_size=4),
    ),
    min_size=1,
    max_size=3,
)


@settings(deadline=None, max_examples=500, suppress_health_check=[HealthCheck.too_slow])
@given(CHANGES)
def test_damaged_bytes_are_never_answered_otherwise(changes: list[tuple[int, int, bytes]]) -> None:
    body = BODY
    for place, taken, put in changes:
        body = body[:place] + put + body[place + taken :]
    agree(body)


def test_a_request_that_is_cut_off_anywhere_is_never_answered_otherwise() -> None:
    for end in range(len(BODY)):
        agree(BODY[:end])


def test_the_sample_sees_the_same_units_with_the_same_variants() -> None:
    body = request([*PLAIN, "50%"], "button")
    command = assign_columns.assign_many(body)
    assert command
    (column,) = assign_many(command, SNAPSHOT.evaluator) or []
    sent = decode_assign.assign(pb.AssignRequest.FromString(body), SNAPSHOT, 0.0, VALIDATOR)
    (wanted,) = assign(sent, SNAPSHOT.evaluator)
    assert command.units() == [unit.unit("user") for unit in sent.units]
    assert list(column.split()) == [
        cell.variant if cell.reason == "SPLIT" else None for cell in wanted.cells
    ]
    assert {*column.split()} == {"control", "green", None}


def test_experiments_of_another_unit_type_are_not_decided_by_these_ids() -> None:
    command = assign_columns.assign_many(request(PLAIN, "button"))
    assert command
    assert assign_many(command, SNAPSHOT.evaluator)
    assert assign_many(replace(command, unit_type="device"), SNAPSHOT.evaluator) is None


async def test_a_large_call_is_answered_like_small_ones(tmp_path: Path) -> None:
    units = [pb.UnitContext(ids=[UnitId(type="user", id=one)]) for one in PLAIN]
    half = len(units) // 2
    async with open_world(tmp_path, assignment_http_address="") as world:
        await world.start("button", traffic_slots=5000)
        few = [await world.assign([unit], "button") for unit in units[:50]]
        for _ in range(EVERY):
            many = await world.assign(units, "button")
        odd = await world.assign([*units[:half], pb.UnitContext(ids=[UnitId(type="x", id="x")])])
    assert few[0].experiments == many.experiments
    assert [one.units[0] for one in few] == many.units[:50]
    assert odd.units[:half] == many.units[:half]
    assert (many.config_version, many.config_age_s) == (few[0].config_version, few[0].config_age_s)
