"""Readings beside the one of record, which take no look."""

from dataclasses import replace

from touchstone_statistics.contrast import Contrast

from services.results.domain.analysis_plan import AnalysisMethod
from services.results.domain.reading.report import Beside, How
from services.results.domain.reading.rules import Rule
from services.results.domain.reading.together import Asking, ToRead


def without_looks(rule: Rule) -> Rule:
    """The rule of record where it takes no looks, else one that holds at every look without a
    ledger.
    """
    fixed = rule.method is AnalysisMethod.FIXED
    return replace(rule, method=AnalysisMethod.FIXED if fixed else AnalysisMethod.ANYTIME)


def at_any_look(how: How, contrast: Contrast) -> Asking[Beside]:
    """The data of the cut by a rule that takes no look."""
    rule = without_looks(how.rule)
    reading = yield ToRead(rule, contrast, (), how.believing.alpha)
    return Beside(rule.method, contrast, reading)
