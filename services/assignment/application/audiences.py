"""Audiences: made, changed, deleted, and asked who belongs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from touchstone_assignment.conditions import Audiences, IdSet
from touchstone_assignment.subject import Subject

from services.assignment.application.condition_rules import (
    audience_rules,
    require_bearable,
    require_sound_condition,
    users_of_audience,
)
from services.assignment.application.find_resource import Which, find_resource, require_free
from services.assignment.application.schema import require_declared_unit_type
from services.assignment.domain.audience import Audience, ListedIds
from services.assignment.domain.experiment import require_id, require_unit_type
from services.assignment.domain.limits import LIMITS, Limits
from services.assignment.ports import Configuration
from shared import errors

NOUN = "audience"
FIELDS = ("display_name", "description", "condition")
"""What a change may name."""


@dataclass(frozen=True, slots=True)
class CreateAudience:
    """What to make. `members` is the text of a condition, or a list that is still empty."""

    project: str
    audience_id: str
    members: str | ListedIds
    display_name: str = ""
    description: str = ""


@dataclass(frozen=True, slots=True)
class UpdateAudience:
    """The new values by the name of the field, one of FIELDS."""

    which: Which
    changes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CheckMembers:
    """Whom to look at."""

    which: Which
    units: Sequence[Subject]


def create_audience(
    command: CreateAudience,
    configuration: Configuration,
    now: datetime,
    limits: Limits = LIMITS,
) -> Audience:
    """The new audience.

    ALREADY_EXISTS when the id is taken, INVALID_ARGUMENT with every fault of the condition,
    RESOURCE_EXHAUSTED when the project has as many as it may.
    """
    require_id("audience_id", command.audience_id)
    project, store = command.project, configuration.audiences
    revision = configuration.next_revision(project, now)
    require_free(store, NOUN, project, command.audience_id)
    there = len(store.all_now(project))
    if there >= limits.max_audiences:
        what = "the number of audiences of the project"
        raise errors.limit_exceeded(what, there + 1, limits.max_audiences)
    if isinstance(command.members, ListedIds):
        unit_type = require_unit_type(command.members.unit_type)
        require_declared_unit_type(configuration, project, unit_type, "audience.id_list.unit_type")
    else:
        require_sound_condition(command.members, configuration, project, "audience.condition")
    found = Audience(
        project=project,
        resource_id=command.audience_id,
        config_version=revision.config_version,
        create_time=now,
        members=command.members,
        update_time=now,
        display_name=command.display_name,
        description=command.description,
    )
    store.insert(found)
    return found


def update_audience(
    command: UpdateAudience, configuration: Configuration, now: datetime
) -> Audience:
    """The changed audience, by which running experiments decide at once.

    NOT_FOUND, ABORTED on a stale etag, FAILED_PRECONDITION for a condition of a list,
    INVALID_ARGUMENT for one that it or what asks for it could not decide by. A change to what is
    there already changes nothing.
    """
    which, changes = command.which, dict(command.changes)
    revision = configuration.next_revision(which.project, now)
    old = find_resource(configuration.audiences, NOUN, which)
    members = changes.pop("condition", old.members)
    new = replace(old, members=members, **changes)  # type: ignore[arg-type]  # texts, by FIELDS
    if new == old:
        return old
    if isinstance(new.members, str) and new.members != old.members:
        _require_rule(old)
        require_sound_condition(new.members, configuration, which.project, "audience.condition")
        require_bearable(new, configuration.load(which.project))
    new = replace(new, config_version=revision.config_version, update_time=now)
    configuration.audiences.replace(old, new)
    return new


def delete_audience(command: Which, configuration: Configuration, now: datetime) -> None:
    """Takes it away; FAILED_PRECONDITION while something asks for it, which is named."""
    revision = configuration.next_revision(command.project, now)
    old = find_resource(configuration.audiences, NOUN, command)
    users = users_of_audience(configuration.load(command.project), command.resource_id)
    if users:
        raise errors.in_use(f"audience {command.resource_id}", users)
    configuration.audiences.delete(old, revision)


def check_members(
    command: CheckMembers, configuration: Configuration, id_sets: Callable[[str], IdSet]
) -> list[bool]:
    """Whether each unit belongs now, in the order of the units; NOT_FOUND."""
    project, key = command.which.project, command.which.resource_id
    find_resource(configuration.audiences, NOUN, command.which)
    rules = audience_rules([key], configuration.audiences.all_now(project))
    holds = Audiences(rules, id_sets).predicate(key)
    return [holds(unit) for unit in command.units]


def _require_rule(found: Audience) -> None:
    if found.id_list is not None:
        raise errors.wrong_state(
            f"audience {found.resource_id}",
            "by id list",
            "changing its condition",
            "an audience by condition; upload ids, or make another audience",
        )
