"""Force a variant on a unit, take it back, and list what is forced."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from touchstone_assignment.bucketing import unit_bytes

from services.assignment.application.find import find_experiment
from services.assignment.domain.experiment import AssignmentSource, State, require_unit_type
from services.assignment.domain.forced import ForcedVariant, forced_id, forced_prefix
from services.assignment.domain.limits import LIMITS, Limits
from services.assignment.ports import Configuration
from shared import errors

SORT_KEY = r"([a-z][a-z0-9_]{0,31})/((?s:.{1,256}))"
"""The form of a sort key: the unit type and the unit id."""


@dataclass(frozen=True, slots=True)
class ForcedUnit:
    """A unit of an experiment."""

    project: str
    experiment_id: str
    unit_type: str
    unit_id: str

    @property
    def resource_id(self) -> str:
        """Under which its forced variant stands."""
        return forced_id(self.experiment_id, self.unit_type, self.unit_id)


def set_forced_variant(
    unit: ForcedUnit,
    variant: str,
    note: str,
    configuration: Configuration,
    now: datetime,
    limits: Limits = LIMITS,
) -> ForcedVariant:
    """What is forced for the unit from now on, in place of what was.

    NOT_FOUND, FAILED_PRECONDITION for an experiment that is archived or that others assign,
    INVALID_ARGUMENT for a variant or a unit that cannot be, RESOURCE_EXHAUSTED beyond the limit.
    """
    revision = configuration.next_revision(unit.project, now)
    _require_possible(unit, variant, configuration)
    old = configuration.forced.get(unit.project, unit.resource_id)
    new = ForcedVariant(
        project=unit.project,
        resource_id=unit.resource_id,
        config_version=revision.config_version,
        create_time=now,
        experiment_id=unit.experiment_id,
        unit_type=unit.unit_type,
        unit_id=unit.unit_id,
        variant=variant,
        note=note,
    )
    if old is None:
        most = limits.max_forced_variants
        if len(_of(configuration, unit.project, unit.experiment_id, most)) >= most:
            raise errors.limit_exceeded(
                f"forced variants of experiment {unit.experiment_id}", most + 1, most
            )
        configuration.forced.insert(new)
        return new
    if (old.variant, old.note) == (variant, note):
        return old
    new = replace(new, create_time=old.create_time)
    configuration.forced.replace(old, new)
    return new


def clear_forced_variant(unit: ForcedUnit, configuration: Configuration, now: datetime) -> None:
    """The rules decide for the unit again. NOT_FOUND when nothing is forced for it."""
    revision = configuration.next_revision(unit.project, now)
    find_experiment(configuration, unit.project, unit.experiment_id)
    old = configuration.forced.get(unit.project, unit.resource_id)
    if old is None:
        raise errors.not_found(
            f"forced variant in experiment {unit.experiment_id} for unit of type {unit.unit_type}",
            unit.unit_id,
        )
    configuration.forced.delete(old, revision)


def list_forced_variants(
    configuration: Configuration,
    project: str,
    experiment_id: str,
    size: int,
    after: Sequence[str] | None,
) -> tuple[list[ForcedVariant], str]:
    """A page by unit type and id, and the sort key of its last one, empty when nothing follows."""
    find_experiment(configuration, project, experiment_id)
    start = forced_id(experiment_id, *after) if after else forced_prefix(experiment_id)
    # One more than asked for tells whether anything follows.
    found = _from(configuration, project, experiment_id, start, size + 1)
    page = found[:size]
    return page, f"{page[-1].unit_type}/{page[-1].unit_id}" if len(found) > size else ""


def _require_possible(unit: ForcedUnit, variant: str, configuration: Configuration) -> None:
    experiment = find_experiment(configuration, unit.project, unit.experiment_id)
    design, name = experiment.design, f"experiment {unit.experiment_id}"
    if experiment.state is State.ARCHIVED:
        raise errors.wrong_state(name, experiment.state, "forcing a variant", "any other state")
    if design.source is AssignmentSource.EXTERNAL:
        allowed = "the assignment source SLOTS; force it in the system that assigns it"
        raise errors.wrong_state(name, design.source, "forcing a variant", allowed)
    require_unit_type(unit.unit_type)
    types = [kind for kind in (design.unit_type, design.anonymous_unit_type) if kind]
    if unit.unit_type not in types:
        allowed = f"the type of the experiment's units: {' or '.join(types)}"
        raise errors.invalid("forced_variant.unit.type", unit.unit_type, allowed)
    try:
        unit_bytes(unit.unit_id)
    except ValueError as error:
        raise errors.invalid("forced_variant.unit.id", unit.unit_id, str(error)) from error
    keys = [kept.key for kept in design.variants]
    if variant not in keys:
        allowed = f"the key of a variant, one of {keys[:10]}"
        raise errors.invalid("forced_variant.variant", variant, allowed)


def _of(
    configuration: Configuration, project: str, experiment_id: str, limit: int
) -> list[ForcedVariant]:
    return _from(configuration, project, experiment_id, forced_prefix(experiment_id), limit)


def _from(
    configuration: Configuration, project: str, experiment_id: str, after: str, limit: int
) -> list[ForcedVariant]:
    page = configuration.forced.page(project, after, limit)
    return [found for found in page if found.experiment_id == experiment_id]
