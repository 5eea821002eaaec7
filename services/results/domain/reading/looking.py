"""When a look is taken, and which data the reading of record comes from."""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from touchstone_statistics.boundaries import Look as Boundary
from touchstone_statistics.contrast import Contrast
from touchstone_statistics.gaps import FloatArray
from touchstone_statistics.inference import Reading

from services.results.domain.analysis_plan import AnalysisMethod
from services.results.domain.look import Cut, Look, LookKey, Seen, contrast_of
from services.results.domain.reading.rules import Rule
from services.results.domain.reading.together import Asking, ToRead

GROWTH = 0.05
"""An anytime-valid rule, where a look costs nothing, keeps one for this much more data."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where looks are taken: the comparison's metric, the cut that is read and the plan."""

    project: str
    experiment_id: str
    metric_id: str
    cut: Cut
    plan_version: int
    time: dt.datetime

    def key(self, variant: str) -> LookKey:
        """The key of one treatment's looks."""
        return LookKey(self.project, self.experiment_id, self.metric_id, variant)


@dataclass(frozen=True, slots=True)
class Looking:
    """The rule of record, the error probability of what is shown, and where looks are taken.

    Looks are taken at the error probability of the plan, whatever is shown.
    """

    rule: Rule
    alpha: float
    place: Place


@dataclass(frozen=True, slots=True, eq=False)
class Looked:
    """The comparisons of one metric at the looks that count, one axis of treatments.

    `looks` has those up to the cut that is read, the new ones among them; `contrast` is what they
    are read from, `reading` the two-sided reading of record. `current` says for each treatment
    whether that is the data of the cut, `new` are the looks that have to be kept.
    """

    rule: Rule
    looks: tuple[tuple[Look, ...], ...]
    contrast: Contrast
    reading: Reading
    current: tuple[bool, ...]
    new: tuple[Look, ...]

    def at_level(self, level: FloatArray) -> ToRead:
        """The same read at another error probability of each comparison."""
        return ToRead(self.rule, self.contrast, self.boundaries, level)

    @property
    def boundaries(self) -> list[list[Boundary]]:
        """What the looks at each treatment cost."""
        return [[look.boundary for look in taken] for taken in self.looks]


def look_at(
    how: Looking,
    contrast: Contrast,
    variants: Sequence[str],
    kept: Mapping[LookKey, Sequence[Look]],
) -> Asking[Looked]:
    """Take the looks that are due, and read.

    `contrast` is of the data of the cut, one axis of treatments. Of `kept` only the looks up to
    the cut count: reading the past again gives what it gave then.
    """
    rule, place = how.rule, how.place
    before = [_up_to(kept.get(place.key(variant), ()), place.cut) for variant in variants]
    units = rule.information(contrast).tolist()
    due = [_due(rule, taken, own, place.cut) for taken, own in zip(before, units, strict=True)]
    waiting = [
        new is None and rule.waits([look.boundary for look in taken])
        for taken, new in zip(before, due, strict=True)
    ]
    of_record = _read_from(before, waiting, contrast)
    boundaries = [
        [*(look.boundary for look in taken), *([] if new is None else [new])]
        for taken, new in zip(before, due, strict=True)
    ]
    reading = yield ToRead(rule, of_record, boundaries, how.alpha)
    said = [None if gap else float(p) for p, gap in zip(reading.p_value, reading.gap, strict=True)]
    new = {
        index: Look(
            key=place.key(variants[index]),
            number=len(before[index]) + 1,
            boundary=cost,
            p_value=said[index],
            seen=Seen.of(of_record, index),
            cut=place.cut,
            plan_version=place.plan_version,
            create_time=place.time,
        )
        for index, cost in enumerate(due)
        if cost is not None
    }
    return Looked(
        rule=rule,
        looks=tuple(
            (*taken, new[index]) if index in new else taken for index, taken in enumerate(before)
        ),
        contrast=of_record,
        reading=reading,
        current=tuple(
            not waits or before[index][-1].cut == place.cut for index, waits in enumerate(waiting)
        ),
        new=tuple(new.values()),
    )


def _read_from(
    before: Sequence[Sequence[Look]], waiting: Sequence[bool], contrast: Contrast
) -> Contrast:
    """The data of the last look where others have to wait, that of the cut elsewhere."""
    return contrast_of(
        [
            taken[-1].seen if waits else Seen.of(contrast, index)
            for index, (taken, waits) in enumerate(zip(before, waiting, strict=True))
        ]
    )


def running_p_value(looked: Looked, index: int) -> float | None:
    """The smallest p-value of all looks of one treatment, the present reading among them.

    Source: Johari, Koomen, Pekelis and Walsh (2022), "Always valid inference", definition 1.
    """
    found = [look.p_value for look in looked.looks[index] if look.p_value is not None]
    if not looked.reading.gap[index]:
        found.append(float(looked.reading.p_value[index]))
    return min(found, default=None)


def _up_to(looks: Sequence[Look], cut: Cut) -> tuple[Look, ...]:
    return tuple(look for look in looks if look.cut.position <= cut.position)


def _due(rule: Rule, taken: Sequence[Look], information: float, cut: Cut) -> Boundary | None:
    """What the next look costs, None where none is due."""
    last = taken[-1] if taken else None
    if not rule.takes_looks or (last is not None and last.cut.position >= cut.position):
        return None
    if rule.method is AnalysisMethod.GROUP_SEQUENTIAL:
        ledger = rule.ledger([look.boundary for look in taken])
        moved = rule.advanced(ledger, information)
        return None if moved is ledger else moved.looks[-1]
    planned = rule.plan.planned_units
    fraction = min(information / planned, 1.0) if planned else 0.0
    if last is not None and rule.waits([last.boundary]):
        return None
    enough = 2.0 if last is None else last.boundary.information * (1.0 + GROWTH)
    ends = rule.method is AnalysisMethod.HYBRID and fraction >= 1.0
    return Boundary(information, fraction, 0.0, None) if ends or information >= enough else None
