"""Other methods beside the rule of record: what they would have said, at no price."""

from dataclasses import replace

from touchstone_statistics.boundaries import Ledger
from touchstone_statistics.boundaries import Look as Boundary
from touchstone_statistics.contrast import Contrast

from services.results.domain.analysis_plan import AnalysisMethod
from services.results.domain.look import Look, Seen, contrast_of
from services.results.domain.reading.looking import Looked
from services.results.domain.reading.rules import Boundaries, Rule


def as_method(
    method: AnalysisMethod, looked: Looked, contrast: Contrast
) -> tuple[Rule, Contrast, Boundaries]:
    """How another method reads a comparison: its rule, the data, and what looks cost there.

    `contrast` is the data of the cut, one axis of treatments. A group-sequential plan is read as if
    the looks that the rule of record took, and this one, had been taken by it. Where this one is
    too soon after the last for such a plan, its data is that of the last. Nothing of it is kept, so
    the looks of record cost what they did, and decide what they decided.
    """
    rule = replace(looked.rule, method=method)
    if method is not AnalysisMethod.GROUP_SEQUENTIAL:
        return rule, contrast, ()
    prices, seen = [], []
    for index, now in enumerate(rule.information(contrast).tolist()):
        here = Seen.of(contrast, index)
        price, read = _priced(rule, looked.looks[index], (now, here))
        prices.append(price)
        seen.append(read)
    return rule, contrast_of(seen), prices


def _priced(
    rule: Rule, taken: tuple[Look, ...], here: tuple[float, Seen]
) -> tuple[list[Boundary], Seen]:
    """What the looks and this one would have cost, and what was seen at the last that counts."""
    information, seen = here
    ledger, shown = Ledger(), seen
    for look in taken:
        moved = replace(rule, over=False).advanced(ledger, look.boundary.information)
        ledger, shown = (ledger, shown) if moved is ledger else (moved, look.seen)
    moved = rule.advanced(ledger, information)
    if moved is not ledger or not ledger.looks or ledger.looks[-1].information == information:
        shown = seen
    return list(moved.looks), shown
