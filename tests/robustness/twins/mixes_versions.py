"""The assignment service that decides the last experiment by the rules of the version before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from touchstone_assignment.compiled import Evaluator

from services.assignment.application.assign import AssignUnits
from tests.robustness.twins.replaced import part, serve_assignment
from tests.robustness.twins.replaced import replace as put

MODULE = "services.assignment.api.assignment"
_EVALUATORS: list[Evaluator] = []

if __name__ == "__main__":
    right = part(MODULE, "assign")

    def assign(command: AssignUnits, evaluator: Evaluator) -> Sequence[Any]:
        """Stands in for assign."""
        if not _EVALUATORS or _EVALUATORS[-1] is not evaluator:
            _EVALUATORS.append(evaluator)
        columns = right(command, evaluator)
        before = right(command, _EVALUATORS[max(0, len(_EVALUATORS) - 2)])
        last = replace(columns[-1], cells=before[-1].cells)
        return [*columns[:-1], last]

    put(MODULE, "assign", assign)
    serve_assignment()
