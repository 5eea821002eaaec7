"""Does a design fit what its project declares, and the layer that it is in?"""

from services.assignment.application.find import find_layer
from services.assignment.application.schema import require_declared_unit_type
from services.assignment.domain.experiment import AssignmentSource, Design
from services.assignment.domain.parameter_rules import check_payload
from services.assignment.ports import Configuration

_UNIT_TYPES = ("unit_type", "anonymous_unit_type", "observed_unit_type")


def require_fit(
    configuration: Configuration, project: str, new: Design, old: Design | None = None
) -> None:
    """INVALID_ARGUMENT for a unit type that the project does not declare, and for a payload that
    sets what is no parameter of the layer. What `old` has already is not judged again.
    """
    for field in _UNIT_TYPES:
        unit_type: str = getattr(new, field)
        if unit_type and (old is None or getattr(old, field) != unit_type):
            require_declared_unit_type(configuration, project, unit_type, field)
    in_layer = new.source is AssignmentSource.SLOTS
    if in_layer and (old is None or old.variants != new.variants):
        check_payload(find_layer(configuration, project, new.layer), new.variants)
