"""Holdouts: made, renamed and ended."""

from dataclasses import dataclass, replace
from datetime import datetime

from touchstone_assignment.bucketing import HashVersion

from services.assignment.application.find import find_experiment, find_layer
from services.assignment.application.find_resource import (
    Change,
    Which,
    change_resource,
    find_resource,
    require_free,
)
from services.assignment.application.fresh_salt import fresh_salt
from services.assignment.application.schema import require_declared_unit_type
from services.assignment.domain.experiment import (
    AssignmentSource,
    require_id,
    require_unit_type,
)
from services.assignment.domain.holdout import Holdout
from services.assignment.domain.limits import LIMITS
from services.assignment.ports import Configuration
from shared import errors
from shared.ids import IdGenerator


@dataclass(frozen=True, slots=True)
class CreateHoldout:
    """What to make. Layers and experiments both empty: every experiment of the unit type."""

    project: str
    holdout_id: str
    slots: int
    unit_type: str = ""
    layers: tuple[str, ...] = ()
    experiments: tuple[str, ...] = ()
    hash_version: HashVersion = HashVersion.FLAGD_V2
    display_name: str = ""
    description: str = ""


def create_holdout(
    command: CreateHoldout, configuration: Configuration, ids: IdGenerator, now: datetime
) -> Holdout:
    """The new holdout, which keeps its units out from now on, also of what runs already.

    ALREADY_EXISTS when the id is taken, NOT_FOUND for a layer or experiment that is not there,
    INVALID_ARGUMENT for one of another unit type.
    """
    require_id("holdout_id", command.holdout_id)
    unit_type = require_unit_type(command.unit_type or "user")
    revision = configuration.next_revision(command.project, now)
    require_free(configuration.holdouts, "holdout", command.project, command.holdout_id)
    require_declared_unit_type(configuration, command.project, unit_type)
    _require_room(command, configuration)
    _require_scope(command, unit_type, configuration)
    salts = configuration.salts(command.project)
    holdout = Holdout(
        project=command.project,
        resource_id=command.holdout_id,
        config_version=revision.config_version,
        create_time=now,
        unit_type=unit_type,
        slots=command.slots,
        salt=fresh_salt("holdout", command.hash_version, salts, ids),
        hash_version=command.hash_version,
        layers=command.layers,
        experiments=command.experiments,
        display_name=command.display_name,
        description=command.description,
    )
    configuration.holdouts.insert(holdout)
    return holdout


def update_holdout(command: Change, configuration: Configuration, now: datetime) -> Holdout:
    """The holdout with other texts; whom it holds out stays as it is."""
    revision = configuration.next_revision(command.which.project, now)
    old = find_resource(configuration.holdouts, "holdout", command.which)
    return change_resource(configuration.holdouts, old, command, revision)


def end_holdout(command: Which, configuration: Configuration, now: datetime) -> Holdout:
    """The holdout after it: its units may be assigned from now on.

    FAILED_PRECONDITION when it is over already.
    """
    revision = configuration.next_revision(command.project, now)
    old = find_resource(configuration.holdouts, "holdout", command)
    if old.ended:
        raise errors.wrong_state(
            f"holdout {old.resource_id}", "ended", "ending it", "a holdout that is in force"
        )
    new = replace(old, end_time=now, config_version=revision.config_version)
    configuration.holdouts.replace(old, new)
    return new


def _require_room(command: CreateHoldout, configuration: Configuration) -> None:
    holdouts = configuration.holdouts.all_now(command.project).values()
    in_force = sum(not holdout.ended for holdout in holdouts)
    if in_force >= LIMITS.max_holdouts:
        what = "the number of holdouts in force (end one that is no longer needed)"
        raise errors.limit_exceeded(what, in_force + 1, LIMITS.max_holdouts)


def _require_scope(command: CreateHoldout, unit_type: str, configuration: Configuration) -> None:
    for index, layer_id in enumerate(command.layers):
        layer = find_layer(configuration, command.project, layer_id)
        if layer.unit_type != unit_type:
            allowed = f"layers of units of type {unit_type!r}; this one cuts {layer.unit_type!r}"
            raise errors.invalid(f"layers[{index}]", layer_id, allowed)
    for index, experiment_id in enumerate(command.experiments):
        design = find_experiment(configuration, command.project, experiment_id).design
        if design.unit_type != unit_type:
            allowed = (
                f"experiments on units of type {unit_type!r}; this one is on {design.unit_type!r}"
            )
            raise errors.invalid(f"experiments[{index}]", experiment_id, allowed)
        if design.source is AssignmentSource.EXTERNAL:
            allowed = "experiments that this service assigns; this one is EXTERNAL"
            raise errors.invalid(f"experiments[{index}]", experiment_id, allowed)
