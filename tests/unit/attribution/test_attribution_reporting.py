"""What is told beside figures: intervals by unit id, settled orders, and their warnings."""

import datetime as dt
from dataclasses import replace

import numpy as np
import pytest

from services.attribution.adapters.memory import ConversionRow, MemoryJourneyLog, TouchRow
from services.attribution.application.definition import JourneyDefinition
from services.attribution.application.evaluate_paths import EvaluatePaths, evaluate_paths
from services.attribution.application.get_attribution import (
    Attribution,
    GetAttribution,
    get_attribution,
)
from services.attribution.application.questions import Question
from services.attribution.application.reporting import (
    HeldOutUnits,
    Reporting,
    numbered_units,
    settle,
)
from services.attribution.domain.bootstrap.weights import Resampling
from services.attribution.domain.journeys import DAY_US
from services.attribution.domain.models import (
    AdditiveHazard,
    AutomaticMarkov,
    LearnedShapley,
    Linear,
    Markov,
    Shapley,
)
from services.attribution.domain.paths.aggregated import PathColumns
from services.attribution.domain.sufficiency import Concern
from services.attribution.limits import AttributionLimits
from tests.unit.attribution.journey_cases import journeys_of_paths

NOW = dt.datetime(2026, 2, 1, tzinfo=dt.UTC)
LIMITS = AttributionLimits()
FULL = Reporting(Resampling(40), HeldOutUnits(), 1)


def log_of(prefix: str = "", others: int = 0) -> MemoryJourneyLog:
    """Two channels over 90 units; `others` are units of a third channel that sort before them."""
    touches, bought = [], []
    for number in range(90):
        unit = f"{prefix}unit-{number:02}"
        for day, channel in enumerate(["ads", "mail"][: 1 + number % 2]):
            event_id = f"t-{unit}-{day}"
            touches.append(TouchRow(event_id, "demo", unit, day * DAY_US, channel))
        if number % 3 == 0:
            bought.append(ConversionRow(f"c-{unit}", "demo", unit, 5 * DAY_US, "buy", 2.0))
    touches += [
        TouchRow(f"o-{number}", "demo", f"a-{number}", DAY_US, "other") for number in range(others)
    ]
    return MemoryJourneyLog(touches, bought, NOW)


def ask(log: MemoryJourneyLog, reporting: Reporting = FULL) -> Attribution:
    models = (Linear(), Shapley(), AdditiveHazard())
    question = Question("demo", JourneyDefinition("buy"), models)
    return get_attribution(GetAttribution(question, reporting), log, LIMITS)


def spans(answer: Attribution, channel: str) -> list[tuple[float, float]]:
    rows = [row for table in answer.told for row in table.channels]
    return [row.spans.conversions for row in rows if row.spans and row.totals.channel == channel]


def test_weights_go_with_the_id_of_a_unit_and_not_with_its_number() -> None:
    plain, more, renamed = (
        ask(log) for log in (log_of(), log_of(others=50), log_of(prefix="other-"))
    )

    # Units that sort before the others give every other unit another number, and no other weight.
    assert spans(plain, "mail") == spans(more, "mail")
    assert spans(plain, "mail") != spans(renamed, "mail")


def test_what_is_not_asked_for_is_not_made() -> None:
    answer = ask(log_of(), Reporting())

    assert answer.fits == ()
    assert all(table.resampled is None for table in answer.told)
    assert all(row.spans is None for table in answer.told for row in table.channels)


def test_thin_figures_are_warned_of_by_model_and_channel() -> None:
    answer = ask(log_of(others=3), replace(FULL, most_s=1e-9))
    concerns = {(warning.concern, warning.model, warning.channel) for warning in answer.warnings}

    assert (Concern.NO_INTERVAL, "additive_hazard", "") in concerns
    assert (Concern.FEW_HELD_OUT, "additive_hazard", "") in concerns
    hidden = ask(log_of(others=3), replace(FULL, min_units=10))
    texts = " ".join(warning.message for warning in hidden.warnings)
    assert "'other'" not in texts
    assert "'other'" in " ".join(warning.message for warning in answer.warnings)
    assert Concern.CHANNELS_SUPPRESSED in {warning.concern for warning in hidden.warnings}


def test_a_project_without_events_is_answered_by_every_model() -> None:
    models = (Linear(), AutomaticMarkov(), Markov(order=3), Shapley(), LearnedShapley())
    question = Question("nobody", JourneyDefinition("buy"), models)
    answer = get_attribution(GetAttribution(question, FULL), log_of(), LIMITS)

    assert [table.channels for table in answer.told] == [()] * len(answer.told)
    assert all(table.resampled and table.resampled.why_none for table in answer.told)
    assert all(fit.why_none for fit in answer.fits)


def test_an_automatic_order_is_that_of_the_largest_penalised_area() -> None:
    # Only the channel before the last one tells who converts.
    paths = [(f"{first}>B", 1.0 if first == "A" else None) for first in "AC" for _ in range(300)]
    journeys = journeys_of_paths(paths)
    units = numbered_units(journeys, Reporting())
    settled = settle([AutomaticMarkov(highest_order=3), Markov(order=2), Linear()], journeys, units)

    assert settled.models == (Markov(order=2), Linear())
    taken = settled.orders[Markov(order=2)]
    assert taken.why_fewer == ""
    areas = [fit.auc for fit in taken.choice.fits]
    assert areas[0] == pytest.approx(0.5)
    assert areas[1] == 1.0


def test_orders_that_cannot_be_told_apart_are_not_tried() -> None:
    names = [f"channel-{number:04}" for number in range(600)]
    journeys = journeys_of_paths([(name, 1.0 if n % 2 else None) for n, name in enumerate(names)])
    units = numbered_units(journeys, Reporting())
    settled = settle([AutomaticMarkov(highest_order=10)], journeys, units)

    (taken,) = settled.orders.values()
    assert len(taken.choice.fits) == 5
    assert taken.why_fewer == "600 channels can be told apart up to order 5."


def test_without_held_out_journeys_the_first_order_is_taken() -> None:
    journeys = journeys_of_paths([("A>B", 1.0)])
    settled = settle([AutomaticMarkov()], journeys, numbered_units(journeys, Reporting()))

    assert settled.models == (Markov(),)
    assert "no journeys" in settled.orders[Markov()].why_fewer


def test_intervals_over_aggregated_paths_do_not_depend_on_the_order_of_rows() -> None:
    rows = [("ads > mail", 9, 30.0, 4), ("ads", 3, 3.0, 40), ("ads > mail", 2, 11.0, 0)]
    answers = []
    for order in ([0, 1, 2], [2, 0, 1]):
        paths, conversions, values, nulls = zip(*(rows[row] for row in order), strict=True)
        columns = PathColumns(paths, conversions, values, nulls)
        command = EvaluatePaths(columns, ">", (Linear(), Markov()), FULL)
        answers.append(evaluate_paths(command, LIMITS))

    assert spans(answers[0], "mail") == pytest.approx(np.array(spans(answers[1], "mail")))
    assert len(spans(answers[0], "mail")) == 3
    assert [fit.fit for fit in answers[0].fits][1] is not None
