"""The values of parameters for many units."""

from collections.abc import Mapping, Sequence

from touchstone_assignment.compiled import Evaluator
from touchstone_assignment.parameters import ParameterDecision
from touchstone_assignment.subject import Subject

from services.assignment.domain.limits import LIMITS
from shared import errors


def resolve_parameters(
    evaluator: Evaluator, units: Sequence[Subject], keys: Sequence[str]
) -> list[Mapping[str, ParameterDecision]]:
    """The parameters of each unit by key; a key that no layer has is left out.

    RESOURCE_EXHAUSTED above the limit of decisions.
    """
    values = len(units) * (len(keys) or len(evaluator.parameter_rules))
    if values > LIMITS.max_decisions:
        raise errors.limit_exceeded(
            f"units ({len(units)}) times parameters ({values // len(units)})",
            values,
            LIMITS.max_decisions,
        )
    return [evaluator.parameters(unit, keys) for unit in units]
