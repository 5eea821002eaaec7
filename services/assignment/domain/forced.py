"""A variant that one unit gets whatever the rules say, so that somebody can look at it."""

from dataclasses import dataclass

from services.assignment.domain.resource import Resource


@dataclass(frozen=True, slots=True)
class ForcedVariant(Resource):
    """The variant of one unit in one experiment; its resource id is `forced_id` of the three."""

    experiment_id: str
    unit_type: str
    unit_id: str
    variant: str
    note: str = ""


def forced_prefix(experiment_id: str) -> str:
    """What the resource ids of an experiment's forced variants begin with, and no others."""
    return f"{experiment_id}/"


def forced_unit(resource_id: str) -> tuple[str, str]:
    """The type and the id of the unit that a resource id of a forced variant names."""
    _, unit_type, unit_id = resource_id.split("/", 2)
    return unit_type, unit_id


def forced_id(experiment_id: str, unit_type: str, unit_id: str) -> str:
    """The resource id: ids of one experiment ascend by unit type and unit id.

    No two share one, for neither experiment ids nor unit types hold a '/', which stands below
    every character that they do hold but '-'; a unit type has none.
    """
    return f"{forced_prefix(experiment_id)}{unit_type}/{unit_id}"
