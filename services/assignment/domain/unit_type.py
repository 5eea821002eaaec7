"""The kinds of unit that a project declares."""

from dataclasses import dataclass

from services.assignment.domain.resource import Resource


@dataclass(frozen=True, slots=True)
class UnitType(Resource):
    """A kind of thing that is randomised or observed; its id is the type that units name."""

    display_name: str = ""
    description: str = ""
