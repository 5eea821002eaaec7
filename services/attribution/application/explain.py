"""Why a conversion has the credits that it has."""

import enum
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from services.attribution.application.definition import JourneyDefinition
from services.attribution.application.questions import (
    CutJourneys,
    Question,
    cut_journeys,
    visibility_of,
)
from services.attribution.application.reporting import PLAIN, named_units, settle
from services.attribution.application.stream_credits import touch_weights
from services.attribution.domain.arrays import Floats
from services.attribution.domain.journeys_digest import journeys_digest
from services.attribution.domain.models import Model, divides_conversions
from services.attribution.domain.visibility import Direct, Visibility
from services.attribution.limits import AttributionLimits
from services.attribution.ports import JourneyLog
from shared.errors import not_found


class Outcome(enum.Enum):
    """What became of a conversion."""

    CREDITED = "credited"
    WITHOUT_TOUCH = "without_touch"
    LEFT_OUT = "left_out"


class Verdict(enum.Enum):
    """Whether a touch counts for a conversion, and why not."""

    COUNTS = "counts"
    OUTSIDE_WINDOW = "outside_window"
    NOT_ASSOCIATED = "not_associated"
    DIRECT = "direct"
    BEFORE_PREVIOUS_CONVERSION = "before_previous_conversion"
    TOO_MANY = "too_many"
    TRANSFORMED = "transformed"
    CONVERSION_LEFT_OUT = "conversion_left_out"


@dataclass(frozen=True, slots=True)
class Judged:
    """A touch; times and lookback in microseconds. `weights` has one entry a model, or none."""

    touch_id: str
    channel: str
    time_us: int
    lookback_us: int
    verdict: Verdict
    weights: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """A conversion, its touches within the longest lookback, and the models of their weights."""

    unit_id: str
    time_us: int
    value: float
    outcome: Outcome
    touches: tuple[Judged, ...]
    models: tuple[Model, ...]
    journeys_digest: str


def explain(
    question: Question, conversion_id: str, log: JourneyLog, limits: AttributionLimits
) -> Explanation:
    """Explain a conversion of the question; NOT_FOUND when it is none of them.

    The weights are those of the models that divide each conversion.
    """
    cut = cut_journeys(question, log, limits, identified=True)
    row = _row_of(cut, conversion_id)
    asked = settle(question.models, cut.journeys, named_units(cut, PLAIN)).models
    models = tuple(model for model in asked if divides_conversions(model))
    judge = _Judge(question.definition, cut, row)
    weights = [touch_weights(model, cut)[judge.places] for model in models]
    bought = cut.events.conversions
    return Explanation(
        unit_id=cut.events.unit_ids.at(np.array([row]))[0],
        time_us=int(bought.times[row]),
        value=float(bought.values[row]),
        outcome=judge.outcome,
        touches=tuple(judge.touches(weights)),
        models=models,
        journeys_digest=journeys_digest(cut.journeys),
    )


def _row_of(cut: CutJourneys, conversion_id: str) -> int:
    every = np.arange(len(cut.events.conversions), dtype=np.int64)
    try:
        return cut.events.conversion_ids.at(every).index(conversion_id)
    except ValueError:
        raise not_found("conversion of the report", conversion_id) from None


class _Judge:
    """Judges the touches of one conversion."""

    def __init__(self, definition: JourneyDefinition, cut: CutJourneys, row: int) -> None:
        journeys = cut.journeys
        self._definition, self._cut, self._row = definition, cut, row
        self._visibility: Visibility = visibility_of(definition, cut.events.touches)
        found = np.flatnonzero(journeys.conversion_rows == row)
        if len(found):
            self.outcome = Outcome.CREDITED
        elif row in journeys.direct_rows:
            self.outcome = Outcome.WITHOUT_TOUCH
        else:
            self.outcome = Outcome.LEFT_OUT
        begin, end = journeys.offsets[found[0] : found[0] + 2] if len(found) else (0, 0)
        self.places = slice(int(begin), int(end))
        self._counted = {int(touch): n for n, touch in enumerate(journeys.touch_rows[self.places])}
        whole = cut.paths.whole
        begin, end = whole.offsets[found[0] : found[0] + 2] if len(found) else (0, 0)
        self._whole = frozenset(whole.touch_rows[begin:end].tolist())

    def touches(self, weights: list[Floats]) -> Iterator[Judged]:
        """The unit's touches within the longest lookback, the oldest first."""
        bought, touched = self._cut.events.conversions, self._cut.events.touches
        unit, time = bought.units[self._row], bought.times[self._row]
        first = np.searchsorted(touched.units, unit, side="left")
        last = np.searchsorted(touched.units, unit, side="right")
        ages = time - touched.times[first:last]
        rows = first + np.flatnonzero((ages >= 0) & (ages <= self._definition.longest_us))
        ids = self._cut.events.touch_ids.at(rows)
        for touch_id, row in zip(ids, rows.tolist(), strict=True):
            place = self._counted.get(row)
            yield Judged(
                touch_id=touch_id,
                channel=touched.channels[touched.codes[row]],
                time_us=int(touched.times[row]),
                lookback_us=self._reach(row),
                verdict=self._verdict(row),
                weights=() if place is None else tuple(float(each[place]) for each in weights),
            )

    def _reach(self, row: int) -> int:
        reaches = self._visibility.reaches
        return self._definition.lookback_us if reaches is None else int(reaches[row])

    def _verdict(self, row: int) -> Verdict:
        if row in self._counted:
            return Verdict.COUNTS
        return Verdict.TRANSFORMED if row in self._whole else self._why_not(row)

    def _why_not(self, row: int) -> Verdict:
        bought, touched = self._cut.events.conversions, self._cut.events.touches
        if self.outcome is Outcome.LEFT_OUT:
            return Verdict.CONVERSION_LEFT_OUT
        if bought.times[self._row] - touched.times[row] > self._reach(row):
            return Verdict.OUTSIDE_WINDOW
        if touched.matches is not None and bought.matches is not None:
            agreed = touched.matches[row]
            if agreed < 0 or agreed != bought.matches[self._row]:
                return Verdict.NOT_ASSOCIATED
        same_unit = bought.units == bought.units[self._row]
        earlier = bought.times[same_unit & (bought.times < bought.times[self._row])]
        split = self._definition.repeats.value == "split"
        if split and len(earlier) and touched.times[row] <= earlier.max():
            return Verdict.BEFORE_PREVIOUS_CONVERSION
        direct = self._visibility.direct
        handled = self._visibility.handling is not Direct.KEEP
        if handled and direct is not None and direct[row]:
            return Verdict.DIRECT
        return Verdict.TOO_MANY
