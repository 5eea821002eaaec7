"""Does a design fit what its project declares, and the layer that it is in?"""

from collections.abc import Iterator

from services.assignment.application.condition_rules import condition_faults
from services.assignment.application.find import find_layer
from services.assignment.application.schema import attribute_types, require_declared_unit_type
from services.assignment.domain.attribute import AttributeType
from services.assignment.domain.experiment import AssignmentSource, Design
from services.assignment.domain.parameter_rules import check_payload
from services.assignment.ports import Configuration
from shared import errors
from shared.errors import FieldViolation

KEEPING = ("sticky", "anonymous_unit_type")
"""The fields of a design by which units keep what they were served first."""
_UNIT_TYPES = ("unit_type", "anonymous_unit_type", "observed_unit_type")


def require_fit(
    configuration: Configuration, project: str, new: Design, old: Design | None = None
) -> None:
    """INVALID_ARGUMENT for a unit type or an attribute that the project does not declare, a rule
    that is none, an audience that is not there, a payload that sets what is no parameter of the
    layer, and units that keep what they were served in a layer with parameters. What `old` has
    already is not judged again.
    """
    for field in _UNIT_TYPES:
        unit_type: str = getattr(new, field)
        if unit_type and (old is None or getattr(old, field) != unit_type):
            require_declared_unit_type(configuration, project, unit_type, field)
    in_layer = new.source is AssignmentSource.SLOTS
    if in_layer and (old is None or old.variants != new.variants):
        check_payload(find_layer(configuration, project, new.layer), new.variants)
    wrong = [
        *_targeting_faults(configuration, project, new, old),
        *_region_faults(configuration, project, new, old),
        *_kept_faults(configuration, project, new, old),
    ]
    if wrong:
        raise errors.invalid_fields(wrong)


def _kept_faults(
    configuration: Configuration, project: str, new: Design, old: Design | None
) -> Iterator[FieldViolation]:
    """Code that asks for a parameter gets what the rules say, not what a unit keeps: there would be
    two answers for one unit.
    """
    for field in KEEPING:
        value = getattr(new, field)
        if not value or new.source is not AssignmentSource.SLOTS:
            continue
        if old is not None and getattr(old, field) == value:
            continue
        if find_layer(configuration, project, new.layer).parameters:
            yield FieldViolation(
                field,
                f"is {errors.shown(value)}; allowed: none in a layer with parameters, as "
                f"{new.layer!r} is one: make the experiment in another layer",
            )


def _targeting_faults(
    configuration: Configuration, project: str, new: Design, old: Design | None
) -> Iterator[FieldViolation]:
    if new.targeting is None or (old is not None and old.targeting == new.targeting):
        return
    yield from condition_faults(new.targeting, configuration, project, "targeting")


def _region_faults(
    configuration: Configuration, project: str, new: Design, old: Design | None
) -> Iterator[FieldViolation]:
    if new.switchback is None or (old is not None and old.switchback == new.switchback):
        return
    name, types = new.switchback.region_attribute, attribute_types(configuration, project)
    if name and types and types.get(name) != AttributeType.STRING:
        texts = ", ".join(key for key, kind in types.items() if kind == AttributeType.STRING)
        yield FieldViolation(
            "switchback.region_attribute",
            f"is {errors.shown(name)}; allowed: an attribute of type STRING that the project "
            f"declares, as {texts or 'none yet'}",
        )
