"""Why a touch that a path transform took out has no credit."""

import datetime as dt

import pytest

from services.attribution.adapters.memory import ConversionRow, MemoryJourneyLog, TouchRow
from services.attribution.application.definition import JourneyDefinition
from services.attribution.application.explain import Outcome, Verdict, explain
from services.attribution.application.questions import Question
from services.attribution.domain.models import Linear
from services.attribution.domain.paths.transforms import PathTransform, TransformStep
from services.attribution.limits import AttributionLimits

HOUR = 3_600_000_000
TOUCHES = [
    TouchRow(f"t{number}", "demo", "ann", number * HOUR, channel)
    for number, channel in enumerate(["ads", "ads", "mail", "direct"])
]
BOUGHT = ConversionRow("c1", "demo", "ann", 9 * HOUR, "buy", 8.0)


@pytest.mark.parametrize(
    ("step", "counted"),
    [
        (TransformStep(PathTransform.EXPOSURE), [True, False, True, True]),
        (TransformStep(PathTransform.EXPOSURE_LAST), [False, True, True, True]),
        (TransformStep(PathTransform.REMOVE_IF_NOT_ALL, ("ads",)), [False, False, True, True]),
    ],
)
def test_a_touch_that_was_transformed_away_says_so(
    step: TransformStep, counted: list[bool]
) -> None:
    log = MemoryJourneyLog(TOUCHES, [BOUGHT], dt.datetime(2026, 1, 1, tzinfo=dt.UTC))
    definition = JourneyDefinition("buy", transforms=(step,))
    question = Question("demo", definition, (Linear(),))

    found = explain(question, "c1", log, AttributionLimits())

    assert found.outcome is Outcome.CREDITED
    assert [touch.verdict for touch in found.touches] == [
        Verdict.COUNTS if counts else Verdict.TRANSFORMED for counts in counted
    ]
    weights = [touch.weights[0] for touch in found.touches if touch.weights]
    assert weights == [pytest.approx(1 / sum(counted))] * sum(counted)
