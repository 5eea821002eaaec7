"""What a project declares binds what is made from then on, and stays while it is used."""

from collections.abc import Callable
from typing import Any

import pytest

from services.assignment.application import schema
from services.assignment.application.find_resource import (
    Change,
    ListResources,
    Which,
    list_resources,
)
from services.assignment.application.update_experiment import UpdateExperiment, update_experiment
from services.assignment.domain.attribute import Attribute, AttributeType
from services.assignment.domain.experiment import AssignmentSource, State, Switchback
from services.assignment.domain.limits import LIMITS
from services.assignment.domain.unit_type import UnitType
from services.assignment.ports import Configuration
from shared.errors import Code, DomainError
from tests.unit.assignment.storing import START, Stored

COUNTRY = '{"compare":{"attribute":"country","operator":"OPERATOR_EQUAL","values":["DE"]}}'


def declare(stored: Stored, *unit_types: str) -> None:
    def work(configuration: Configuration) -> None:
        for unit_type in unit_types:
            command = schema.CreateUnitType("acme", unit_type)
            schema.create_unit_type(command, configuration, START)

    stored.change(work)


def attribute(stored: Stored, name: str, kind: AttributeType = AttributeType.STRING) -> Attribute:
    command = schema.CreateAttribute("acme", name, kind)
    return stored.change(lambda c: schema.create_attribute(command, c, START))


def delete_unit_type(stored: Stored, key: str, etag: str = "") -> None:
    which = Which("acme", key, etag)
    stored.change(lambda c: schema.delete_unit_type(which, c, START))


def delete_attribute(stored: Stored, key: str) -> None:
    stored.change(lambda c: schema.delete_attribute(Which("acme", key), c, START))


USES: dict[str, Callable[[Stored, str], Any]] = {
    "layer": lambda s, unit_type: s.layer("x", unit_type=unit_type),
    "experiment": lambda s, unit_type: s.experiment("x", unit_type=unit_type),
    "external experiment": lambda s, unit_type: s.experiment(
        "x", unit_type=unit_type, source=AssignmentSource.EXTERNAL
    ),
    "anonymous": lambda s, unit_type: s.experiment("x", anonymous_unit_type=unit_type),
    "observed": lambda s, unit_type: s.experiment("x", observed_unit_type=unit_type),
    "holdout": lambda s, unit_type: s.holdout("x", unit_type=unit_type),
}


@pytest.mark.parametrize("use", USES)
def test_undeclared_unit_types_are_free_until_one_is_declared(stored: Stored, use: str) -> None:
    declare(stored, "user", "shop")
    version = stored.load().config_version
    with pytest.raises(DomainError) as caught:
        USES[use](stored, "device")
    assert (caught.value.code, caught.value.reason) == (Code.INVALID_ARGUMENT, "INVALID_FIELD")
    assert "'device'; allowed: a unit type that the project declares" in caught.value.message
    assert "shop, user" in caught.value.message
    assert stored.load().config_version == version
    declare(stored, "device")
    USES[use](stored, "device")


@pytest.mark.parametrize("use", USES)
def test_a_unit_type_in_use_is_not_deleted(stored: Stored, use: str) -> None:
    declare(stored, "user", "device")
    USES[use](stored, "device")
    with pytest.raises(DomainError, match=r"unit type device' is used by .* x") as caught:
        delete_unit_type(stored, "device")
    assert (caught.value.code, caught.value.reason) == (Code.FAILED_PRECONDITION, "IN_USE")
    assert "device" in stored.load().unit_types


def test_a_project_that_declares_nothing_may_use_anything(stored: Stored) -> None:
    for number, use in enumerate(USES.values()):
        if number in (0, 5):
            use(stored, "anything")
    stored.experiment("y", unit_type="whatever", targeting=COUNTRY)
    assert stored.load().unit_types == {}


def test_what_stands_before_a_declaration_goes_on(stored: Stored) -> None:
    stored.experiment("old", unit_type="device", targeting=COUNTRY)
    declare(stored, "user")
    attribute(stored, "plan")
    command = UpdateExperiment("acme", "old", {"display_name": "Still there"})
    stored.change(lambda c: update_experiment(command, c, START))
    assert stored.move("old", State.RUNNING).state is State.RUNNING


@pytest.mark.parametrize("use", USES)
def test_a_unit_type_that_was_in_use_before_the_first_declaration_stays_usable(
    stored: Stored, use: str
) -> None:
    stored.layer("before", unit_type="device")
    stored.layer("customers")
    declare(stored, "shop")
    USES[use](stored, "device")
    with pytest.raises(DomainError, match="'phone'; allowed: a unit type that the project declare"):
        stored.layer("y", unit_type="phone")
    declare(stored, "device")
    assert list(stored.load().unit_types) == ["device", "shop"]


def test_an_unused_unit_type_is_deleted_and_was_there_before(stored: Stored) -> None:
    declare(stored, "user", "device")
    delete_unit_type(stored, "device", etag="v2")
    assert list(stored.load().unit_types) == ["user"]
    assert list(stored.load(as_of=2).unit_types) == ["device", "user"]
    with pytest.raises(DomainError) as caught:
        delete_unit_type(stored, "device")
    assert caught.value.code is Code.NOT_FOUND


def test_the_texts_of_a_unit_type_change(stored: Stored) -> None:
    declare(stored, "user")
    change = Change(Which("acme", "user", "v1"), {"display_name": "Customer"})
    changed = stored.change(lambda c: schema.update_unit_type(change, c, START))
    assert changed == UnitType("acme", "user", 2, START, "Customer")
    with pytest.raises(DomainError) as caught:
        stored.change(lambda c: schema.update_unit_type(change, c, START))
    assert caught.value.reason == "STALE_ETAG"
    same = Change(Which("acme", "user"), {"display_name": "Customer"})
    assert stored.change(lambda c: schema.update_unit_type(same, c, START)).config_version == 2


def test_rules_ask_for_declared_attributes_of_their_type(stored: Stored) -> None:
    attribute(stored, "country", AttributeType.NUMBER)
    with pytest.raises(DomainError, match="targeting") as caught:
        stored.experiment("x", targeting=COUNTRY)
    assert caught.value.violations[0].field.startswith("targeting.compare")
    stored.experiment("x")
    change = UpdateExperiment("acme", "x", {"targeting": COUNTRY})
    with pytest.raises(DomainError, match="targeting"):
        stored.change(lambda c: update_experiment(change, c, START))
    delete_attribute(stored, "country")
    attribute(stored, "country")
    assert stored.experiment("y", targeting=COUNTRY).design.targeting == COUNTRY


def test_an_audience_that_is_not_there_is_refused(stored: Stored) -> None:
    with pytest.raises(DomainError, match="targeting") as caught:
        stored.experiment("x", targeting='{"audience":"loyal"}')
    assert caught.value.code is Code.INVALID_ARGUMENT


def test_windows_by_region_need_a_text_that_is_declared(stored: Stored) -> None:
    windows = Switchback(3600, 0, "city")
    attribute(stored, "city", AttributeType.NUMBER)
    with pytest.raises(DomainError, match=r"switchback.region_attribute is 'city'.*none yet"):
        stored.experiment("x", switchback=windows)
    attribute(stored, "town")
    stored.experiment("y", switchback=Switchback(3600, 0, "town"))
    with pytest.raises(DomainError, match="experiment y") as caught:
        delete_attribute(stored, "town")
    assert caught.value.reason == "IN_USE"


def test_an_attribute_in_use_is_not_deleted(stored: Stored) -> None:
    attribute(stored, "country")
    stored.experiment("x", targeting=f'{{"negated":{COUNTRY}}}')
    with pytest.raises(DomainError, match="attribute country' is used by experiment x") as caught:
        delete_attribute(stored, "country")
    assert (caught.value.code, caught.value.reason) == (Code.FAILED_PRECONDITION, "IN_USE")
    stored.move("x", State.ARCHIVED)
    delete_attribute(stored, "country")
    assert stored.load().attributes == {}


def test_the_title_of_an_attribute_changes(stored: Stored) -> None:
    attribute(stored, "App.Version", AttributeType.VERSION)
    change = Change(Which("acme", "App.Version"), {"display_name": "App"})
    changed = stored.change(lambda c: schema.update_attribute(change, c, START))
    assert (changed.display_name, changed.type) == ("App", AttributeType.VERSION)


def test_declarations_are_listed_in_pages(stored: Stored) -> None:
    declare(stored, "user", "device", "shop")
    first, last = stored.change(lambda c: list_resources(ListResources("acme", 2), c.unit_types))
    assert ([found.resource_id for found in first], last) == (["device", "shop"], "shop")
    rest, end = stored.change(
        lambda c: list_resources(ListResources("acme", 2, [last]), c.unit_types)
    )
    assert ([found.resource_id for found in rest], end) == (["user"], "")


def test_a_taken_id_and_one_too_many_are_refused(stored: Stored) -> None:
    declare(stored, *(f"t{number}" for number in range(LIMITS.max_unit_types)))
    with pytest.raises(DomainError) as caught:
        declare(stored, "t0")
    assert caught.value.code is Code.ALREADY_EXISTS
    with pytest.raises(DomainError, match="is 101; at most 100") as caught:
        declare(stored, "more")
    assert caught.value.code is Code.RESOURCE_EXHAUSTED
