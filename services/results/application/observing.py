"""Ask the event log about many metrics at once; where that fails, about each by itself."""

from dataclasses import dataclass, replace

from services.results.domain.observation import Observation, Question
from services.results.domain.reading.report import Failure
from services.results.ports import MomentsSource
from shared.errors import Code, DomainError

_OF_ALL = frozenset(
    {Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED, Code.NOT_FOUND, Code.PERMISSION_DENIED}
)
"""What fails with these fails whatever the metric is."""


@dataclass(frozen=True, slots=True)
class Observed:
    """What was seen. `base` has the units; `of[m]` is the observation that holds measure m and its
    index there, or why there is none.
    """

    base: Observation
    of: tuple[tuple[Observation, int] | Failure, ...]


def observe(question: Question, moments: MomentsSource) -> Observed:
    """One query over all measures, or one for each where that one fails.

    All of them see one cut of the log: what comes meanwhile is in none.
    """
    try:
        seen = moments.observe(question)
    except DomainError as error:
        if error.code in _OF_ALL or not question.measures:
            raise
    else:
        return Observed(seen, tuple((seen, index) for index in range(len(question.measures))))
    base = moments.observe(replace(question, measures=()))
    same_cut = replace(question, as_of=question.as_of or base.cut.token)
    parts: list[tuple[Observation, int] | Failure] = []
    for measure in question.measures:
        try:
            parts.append((moments.observe(replace(same_cut, measures=(measure,))), 0))
        except DomainError as error:
            if error.code in _OF_ALL:
                raise
            parts.append(Failure(error.code.value, error.reason, error.message))
    return Observed(base, tuple(parts))
