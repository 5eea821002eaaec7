"""What a request costs that is wrong in many places."""

import pytest
from touchstone.assignment.v1 import assignment_service_pb2
from touchstone.events.v1 import events_service_pb2

from shared.errors import DomainError
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
