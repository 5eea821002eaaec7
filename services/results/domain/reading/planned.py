"""How often the rule of record finds an effect: what plans of power need of it."""

from touchstone_statistics.detection import AtHorizon, AtLooks, Rule, anytime

from services.results.domain.analysis_plan import AnalysisMethod, AnalysisPlan
from services.results.domain.reading.rules import spending_of

LOOKS_PLANNED = 14
"""Power of a group-sequential plan is that of this many equally spaced looks."""


def planned_rule(analysis: AnalysisPlan, share: float) -> Rule:
    """The rule over two arms that have a share of all units; a hybrid has at least the power of
    its last test.
    """
    if analysis.rule is AnalysisMethod.GROUP_SEQUENTIAL:
        return AtLooks(LOOKS_PLANNED, spending_of(analysis))
    if analysis.rule is AnalysisMethod.ANYTIME:
        return anytime(analysis.planned_units * share or None)
    return AtHorizon()
