"""What a project declares: its unit types and attributes.

A project that declares none may use any. From the first declaration on, what is made or changed may
use only what is declared, or in the case of unit types what something that stands is about.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from services.assignment.application.find_resource import (
    Change,
    Which,
    change_resource,
    find_resource,
    require_free,
)
from services.assignment.application.schema_users import users_of_attribute, users_of_unit_type
from services.assignment.domain.attribute import Attribute, AttributeType
from services.assignment.domain.limits import LIMITS
from services.assignment.domain.unit_type import UnitType
from services.assignment.ports import Configuration
from shared import errors


@dataclass(frozen=True, slots=True)
class CreateUnitType:
    """What to declare."""

    project: str
    unit_type_id: str
    display_name: str = ""
    description: str = ""


@dataclass(frozen=True, slots=True)
class CreateAttribute:
    """What to declare."""

    project: str
    attribute_id: str
    type: AttributeType
    display_name: str = ""


def require_declared_unit_type(
    configuration: Configuration, project: str, unit_type: str, field: str = "unit_type"
) -> None:
    """INVALID_ARGUMENT naming `field` when the project declares unit types and not this one.

    One that was in use before the first declaration goes on: what is about it may grow.
    """
    if configuration.unit_types.get(project, unit_type) is not None:
        return
    declared = [found.resource_id for found in configuration.unit_types.page(project, "", 20)]
    if declared and not users_of_unit_type(configuration.load(project), unit_type):
        raise errors.invalid(
            field,
            unit_type,
            f"a unit type that the project declares, as {', '.join(declared)}; or declare it "
            "with CreateUnitType",
        )


def attribute_types(configuration: Configuration, project: str) -> Mapping[str, str]:
    """The name of the type of every attribute that the project declares, by its id."""
    declared = configuration.attributes.all_now(project)
    return {key: found.type.value for key, found in declared.items()}


def create_unit_type(
    command: CreateUnitType, configuration: Configuration, now: datetime
) -> UnitType:
    """The declared unit type; ALREADY_EXISTS when the id is taken."""
    revision = configuration.next_revision(command.project, now)
    store = configuration.unit_types
    require_free(store, "unit type", command.project, command.unit_type_id)
    _require_room("unit types", len(store.all_now(command.project)), LIMITS.max_unit_types)
    found = UnitType(
        project=command.project,
        resource_id=command.unit_type_id,
        config_version=revision.config_version,
        create_time=now,
        display_name=command.display_name,
        description=command.description,
    )
    store.insert(found)
    return found


def update_unit_type(command: Change, configuration: Configuration, now: datetime) -> UnitType:
    """The changed unit type; NOT_FOUND, or ABORTED on a stale etag."""
    revision = configuration.next_revision(command.which.project, now)
    old = find_resource(configuration.unit_types, "unit type", command.which)
    return change_resource(configuration.unit_types, old, command, revision)


def delete_unit_type(command: Which, configuration: Configuration, now: datetime) -> None:
    """Takes it away; FAILED_PRECONDITION while something uses it, which is named."""
    revision = configuration.next_revision(command.project, now)
    old = find_resource(configuration.unit_types, "unit type", command)
    users = users_of_unit_type(configuration.load(command.project), command.resource_id)
    if users:
        raise errors.in_use(f"unit type {command.resource_id}", users)
    configuration.unit_types.delete(old, revision)


def create_attribute(
    command: CreateAttribute, configuration: Configuration, now: datetime
) -> Attribute:
    """The declared attribute; ALREADY_EXISTS when the id is taken."""
    revision = configuration.next_revision(command.project, now)
    store = configuration.attributes
    require_free(store, "attribute", command.project, command.attribute_id)
    _require_room("attributes", len(store.all_now(command.project)), LIMITS.max_attributes)
    found = Attribute(
        project=command.project,
        resource_id=command.attribute_id,
        config_version=revision.config_version,
        create_time=now,
        type=command.type,
        display_name=command.display_name,
    )
    store.insert(found)
    return found


def update_attribute(command: Change, configuration: Configuration, now: datetime) -> Attribute:
    """The changed attribute; NOT_FOUND, or ABORTED on a stale etag."""
    revision = configuration.next_revision(command.which.project, now)
    old = find_resource(configuration.attributes, "attribute", command.which)
    return change_resource(configuration.attributes, old, command, revision)


def delete_attribute(command: Which, configuration: Configuration, now: datetime) -> None:
    """Takes it away; FAILED_PRECONDITION while something asks for it, which is named."""
    revision = configuration.next_revision(command.project, now)
    old = find_resource(configuration.attributes, "attribute", command)
    users = users_of_attribute(configuration.load(command.project), command.resource_id)
    if users:
        raise errors.in_use(f"attribute {command.resource_id}", users)
    configuration.attributes.delete(old, revision)


def _require_room(what: str, there: int, allowed: int) -> None:
    if there >= allowed:
        raise errors.limit_exceeded(f"the number of {what} of the project", there + 1, allowed)
