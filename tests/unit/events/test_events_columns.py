"""Judging and converting by columns gives what judging and converting one by one gives."""

import gc
import tracemalloc
from typing import Any

import pytest
from buf.validate import validate_pb2
from google.protobuf import descriptor_pb2, descriptor_pool, struct_pb2
from google.protobuf.descriptor import FileDescriptor
from hypothesis import given, settings
from hypothesis import strategies as st
from touchstone.common.v1 import unit_pb2
from touchstone.events.v1 import event_pb2, events_service_pb2

from services.events.domain.limits import Limits
from services.events.domain.rejection import Rejection
from services.events.wire.columns import FEW, Decoded, EventDecoder
from services.events.wire.rules import checks_of
from shared.server.validation import RequestValidator

DECODER = EventDecoder(Limits(), RequestValidator().first_violation)

# Text and numbers on both sides of every rule.
NAMES = st.sampled_from(
    ["user", "u", "User", "9", "", "a" * 32, "a" * 33, "exp-1", "exp_1", "v.1", "buy\n", "é", "a b"]
)
IDS = st.sampled_from(
    ["id", "", "x" * 128, "x" * 129, "x" * 256, "x" * 257, "é" * 128, "a\x00", "\x7f", "a\nb", "👍"]
)
WORDS = st.sampled_from(
    ["", "email", "EUR", "eur", "EURO", "x" * 64, "x" * 65, "x" * 129, "a\x1fb"]
)
NUMBERS = st.sampled_from([0.0, -0.0, 1.5, -1.0, float("nan"), float("inf"), 1e308, 5e-324])
SECONDS = st.sampled_from([0, 1_790_000_000, -1, -(2**63), 2**63 - 1, 253_402_300_799])
NANOS = st.sampled_from([0, 1, 999, 1000, 999_999_999, 1_000_000_000, -1])
UNITS = st.builds(unit_pb2.UnitId, type=NAMES, id=IDS)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=4,
)


def structs() -> st.SearchStrategy[struct_pb2.Struct]:
    def struct(values: dict[str, Any]) -> struct_pb2.Struct:
        made = struct_pb2.Struct()
        made.update(values)
        return made

    large = st.just({"text": "x" * Limits().properties_bytes})
    return st.builds(struct, st.dictionaries(st.text(max_size=3), JSON, max_size=3) | large)


def maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


PAYLOADS = {
    "exposure": st.builds(
        event_pb2.Exposure,
        experiment=NAMES,
        variant=NAMES,
        config_version=st.sampled_from([0, 1, -1, 2**63 - 1]),
        reason=WORDS,
        evaluator=WORDS,
    ),
    "conversion": st.builds(
        event_pb2.Conversion, event_name=NAMES, value=maybe(NUMBERS), currency=WORDS
    ),
    "touchpoint": st.builds(
        event_pb2.Touchpoint,
        channel=WORDS,
        campaign_source=WORDS,
        medium=WORDS,
        interaction=WORDS,
        cost=maybe(NUMBERS),
        currency=WORDS,
    ),
    "identify": st.builds(
        event_pb2.Identify, other_unit=maybe(UNITS), action=st.sampled_from([0, 1, 2, 7])
    ),
    "evaluation": st.builds(
        event_pb2.Evaluation, flag=IDS, variant=WORDS, value_json=WORDS, error_type=WORDS
    ),
}


@st.composite
def events(draw: st.DrawFn) -> Any:
    """Mostly well, often with one thing wrong."""
    event: Any = plain(draw(IDS))
    for name, strategy in {
        "unit": UNITS,
        "source": WORDS,
        "linked_units": st.lists(UNITS, min_size=1, max_size=17),
        "properties": structs(),
    }.items():
        if draw(st.integers(0, 3)) == 0:
            fields: Any = {name: draw(strategy)}
            event.MergeFrom(event_pb2.Event(**fields))
    if draw(st.integers(0, 3)) == 0:
        event.event_time.seconds, event.event_time.nanos = draw(SECONDS), draw(NANOS)
    for name in draw(
        st.lists(st.sampled_from([*PAYLOADS, "nothing", "unit", "event_time"]), max_size=2)
    ):
        if name == "nothing":
            event.ClearField("conversion")
        elif name in PAYLOADS:
            getattr(event, name).CopyFrom(draw(PAYLOADS[name]))
        else:
            event.ClearField(name)
    return event


def plain(event_id: str) -> event_pb2.Event:
    event = event_pb2.Event(event_id=event_id, unit=unit_pb2.UnitId(type="user", id="u1"))
    event.event_time.seconds = 1_790_000_000
    event.conversion.event_name = "buy"
    return event


def rows(decoded: Decoded) -> dict[int, tuple[str, tuple[object, ...]] | Rejection]:
    found: dict[int, tuple[str, tuple[object, ...]] | Rejection] = dict(decoded.rejected)
    for portion in decoded.portions:
        for column in portion.columns:
            column.validate(full=True)
        for place, *values in zip(
            portion.places.tolist(),
            *(column.to_pylist() for column in portion.columns),
            strict=True,
        ):
            found[place] = (portion.table, tuple(map(repr, values)))
    return found


def request(sent: list[event_pb2.Event]) -> events_service_pb2.LogEventsRequest:
    return events_service_pb2.LogEventsRequest(events=sent)


def digests(decoded: Decoded) -> dict[int, int]:
    return {
        place: digest
        for portion in decoded.portions
        for place, digest in zip(portion.places.tolist(), portion.digests().tolist(), strict=True)
    }


@settings(max_examples=300, deadline=None)
@given(st.lists(events(), min_size=1, max_size=6))
def test_columns_agree_with_rows(sent: list[event_pb2.Event]) -> None:
    together = DECODER.decode(request([*sent, *(plain(f"f{n}") for n in range(FEW))]))
    answers, by_digest = rows(together), digests(together)
    assert answers.keys() == set(range(len(sent) + FEW))
    for place, event in enumerate(sent):
        alone = DECODER.decode(request([event]))
        assert answers[place] == rows(alone)[0]
        assert by_digest.get(place) == digests(alone).get(0)


def test_plain_events_are_not_judged_one_by_one() -> None:
    """What makes it fast: protovalidate is asked about the strange one alone."""
    asked = []
    validator = RequestValidator()

    def violations(event: event_pb2.Event) -> Any:
        asked.append(event.event_id)
        return validator.first_violation(event)

    kinds = ["exposure", "conversion", "touchpoint", "identify", "evaluation"]
    sent = []
    for n in range(100):
        event = plain(f"e{n}")
        event.linked_units.add(type="device", id=f"d{n % 7}")
        event.properties.update({"n": n})
        kind = kinds[n % 5]
        if kind == "exposure":
            event.exposure.experiment, event.exposure.variant = "exp", "on"
        elif kind == "touchpoint":
            event.touchpoint.channel, event.touchpoint.cost = "email", 0.5
        elif kind == "identify":
            event.identify.other_unit.type, event.identify.other_unit.id = "device", "d"
        elif kind == "evaluation":
            event.evaluation.flag = "Any Flag"
        sent.append(event)
    sent[42].unit.type = "Not A Type"
    decoded = EventDecoder(Limits(), violations).decode(request(sent))
    assert asked == ["e42"]
    assert list(decoded.rejected) == [42]
    assert sum(len(portion) for portion in decoded.portions) == 99


@pytest.mark.parametrize(
    ("kind", "family", "name", "value"),
    [
        ("TYPE_FLOAT", "float", "gte", 0.0),
        ("TYPE_STRING", "string", "contains", "x"),
        ("TYPE_STRING", "string", "pattern", "a|b"),
    ],
)
def test_a_rule_that_columns_cannot_check_stops_the_service(
    kind: str, family: str, name: str, value: object
) -> None:
    """A rule that is added to the contract later is never left out silently."""
    file = descriptor_pb2.FileDescriptorProto(
        name="odd.proto", package="odd", syntax="proto3", dependency=["buf/validate/validate.proto"]
    )
    proto = descriptor_pb2.FieldDescriptorProto
    field = file.message_type.add(name="Odd").field.add(name="it", number=1)
    field.label, field.type = proto.LABEL_OPTIONAL, getattr(proto, kind)
    setattr(getattr(field.options.Extensions[validate_pb2.field], family), name, value)
    pool = descriptor_pool.DescriptorPool()
    _add_with_dependencies(pool, validate_pb2.DESCRIPTOR)
    pool.AddSerializedFile(file.SerializeToString())
    with pytest.raises(NotImplementedError):
        checks_of(pool.FindMessageTypeByName("odd.Odd"))


def _add_with_dependencies(pool: descriptor_pool.DescriptorPool, file: FileDescriptor) -> None:
    for dependency in file.dependencies:
        _add_with_dependencies(pool, dependency)
    pool.AddSerializedFile(file.serialized_pb)


def test_a_long_text_is_remembered_nowhere() -> None:
    """A cache by what strangers send would be theirs to fill."""
    decoder = EventDecoder(Limits(), RequestValidator().first_violation)
    sent = [plain(f"e{n}") for n in range(FEW + 2)]
    sent[0].conversion.event_name = "b" * 100_000
    sent[1].linked_units.add(type="device", id="d" * 100_000)
    tracemalloc.start()
    try:
        for n in range(20):
            sent[0].conversion.event_name = f"{n}" * 100_000
            sent[1].linked_units[0].id = f"{n}" * 100_000
            assert len(decoder.decode(request(sent)).rejected) == 2
        gc.collect()
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 1_000_000


def test_too_many_linked_units_are_not_read_one_by_one() -> None:
    event = plain("e")
    for n in range(20_000):
        event.linked_units.add(type="device", id=str(n))
    decoded = DECODER.decode(request([event, *(plain(f"f{n}") for n in range(FEW))]))
    assert decoded.rejected[0].field.startswith("linked_units")
