"""What a request costs that is wrong in many places, and what is said of it."""

import re
from collections.abc import Iterator

import pytest
from buf.validate import validate_pb2
from google.protobuf.message import Message
from touchstone.assignment.v1 import assignment_service_pb2
from touchstone.attribution.v1 import budget_pb2, economics_service_pb2
from touchstone.events.v1 import event_pb2, events_service_pb2

from protos.compile import descriptor_set
from shared.errors import DomainError
from shared.server.patterns import IN_WORDS
from shared.server.validation import RequestValidator, item_violations


def test_a_list_that_is_too_long_is_told_without_its_elements() -> None:
    request = events_service_pb2.LogEventsRequest()
    for _ in range(60_000):
        request.events.add()
    with pytest.raises(DomainError) as raised:
        RequestValidator().check(request, "events")
    (violation,) = raised.value.violations
    assert violation.field == "events"
    assert violation.description == "has 60000 items; allowed: at most 5000"


def assign(units: int) -> assignment_service_pb2.AssignRequest:
    request = assignment_service_pb2.AssignRequest()
    for n in range(units):
        unit = request.units.add()
        for _ in range(3):
            unit.ids.add(type="user", id="" if n % 2 else f"u{n}" + "x" * 10)
    return request


@pytest.mark.parametrize("units", [4, 500])
def test_the_bad_items_of_a_batch_are_told_whatever_its_size(units: int) -> None:
    """Small: everything that is wrong with each; large: one thing for each."""
    RequestValidator().check(assign(units), "units")
    found = item_violations()
    assert list(found) == list(range(1, units, 2))
    assert {len({v.field for v in of_item}) for of_item in found.values()} == (
        {1} if units > 100 else {3}
    )
    assert all(v[0].field == "ids[0].id" for v in found.values())


def test_a_large_request_without_items_tells_one_violation() -> None:
    request = events_service_pb2.LogEventsRequest()
    for _ in range(3000):
        request.events.add(source="x" * 10)
    with pytest.raises(DomainError) as raised:
        RequestValidator().check(request, "")
    assert len(raised.value.violations) == 1


@pytest.mark.parametrize(
    ("message", "field", "said"),
    [
        (
            economics_service_pb2.GetChannelEconomicsRequest(parent="projects/a"),
            "of",
            "is missing; allowed: exactly one of journeys, report",
        ),
        (
            economics_service_pb2.AllocateBudgetRequest(lines=[budget_pb2.BudgetLine(channel="a")]),
            "lines[0].response",
            "is missing; allowed: exactly one of log, power, history, measured",
        ),
        (
            economics_service_pb2.PredictLifetimeValueRequest(parent="projects/a"),
            "acquisition",
            "is missing, and must be given",
        ),
    ],
)
def test_what_is_missing_is_named_with_its_choices(message: Message, field: str, said: str) -> None:
    (violation,) = RequestValidator().violations(message)
    assert (violation.field, violation.description) == (field, said)


def patterns(rules: validate_pb2.FieldRules) -> Iterator[str]:
    """The patterns of a field, of its elements, keys and values."""
    if rules.string.pattern:
        yield rules.string.pattern
    if rules.HasField("repeated"):
        yield from patterns(rules.repeated.items)
    if rules.HasField("map"):
        yield from patterns(rules.map.keys)
        yield from patterns(rules.map.values)


def test_every_pattern_of_the_contracts_is_in_words_with_an_example_that_keeps_it() -> None:
    found = {
        pattern
        for file in descriptor_set(source_info=False).file
        if file.name.startswith("touchstone/")
        for message in file.message_type
        for field in message.field
        for pattern in patterns(field.options.Extensions[validate_pb2.field])
    }
    assert found == set(IN_WORDS)
    for pattern, words in IN_WORDS.items():
        assert re.fullmatch(pattern, words.example)


def test_a_value_that_breaks_a_pattern_is_told_what_is_allowed_in_words() -> None:
    event = event_pb2.Event(conversion=event_pb2.Conversion(event_name="order", currency="eur"))
    with pytest.raises(DomainError) as raised:
        RequestValidator().check(event, "")
    told = {v.field: v.description for v in raised.value.violations}
    assert told["conversion.currency"] == (
        "is 'eur'; allowed: three capital letters, or empty, such as EUR (^([A-Z]{3})?$)"
    )
