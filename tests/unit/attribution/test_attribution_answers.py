"""The use cases over a log in memory: defaults, windows, limits, and pages that add up."""

import datetime as dt
from collections import defaultdict
from dataclasses import replace
from typing import Any

import pytest

from services.attribution.adapters.memory import ConversionRow, MemoryJourneyLog, TouchRow
from services.attribution.application.definition import JourneyDefinition
from services.attribution.application.get_attribution import GetAttribution, get_attribution
from services.attribution.application.questions import Question
from services.attribution.application.stream_credits import (
    CreditPage,
    StreamCredits,
    computed_credits,
    stream_credits,
)
from services.attribution.domain.journeys import DAY_US, Repeats
from services.attribution.domain.models import EVERY_MODEL, Linear, Markov, Model, Output
from services.attribution.domain.sufficiency import Concern
from services.attribution.limits import AttributionLimits
from services.attribution.ports import EventQuery, JourneyEvents
from shared.errors import Code, DomainError

NOW = dt.datetime(2026, 2, 1, tzinfo=dt.UTC)
LIMITS = AttributionLimits(credits_per_message=2)


def touch(unit: str, day: float, channel: str, **more: Any) -> TouchRow:
    return TouchRow(f"t-{unit}-{day}", "demo", unit, int(day * DAY_US), channel, **more)


def bought(unit: str, day: float, value: float, **more: Any) -> ConversionRow:
    return ConversionRow(f"c-{unit}-{day}", "demo", unit, int(day * DAY_US), "buy", value, **more)


LOG = MemoryJourneyLog(
    [
        touch("ann", 0, "search", cost=2.0, currency="EUR"),
        touch("ann", 40, "mail"),
        touch("ann", 50, "ads", cost=1.0, currency="EUR"),
        touch("bob", 41, "ads", cost=1.0, currency="EUR"),
        touch("cat", 42, "mail"),
    ],
    [
        bought("ann", 51, 30.0, currency="EUR"),
        bought("ann", 60, 10.0, currency="USD"),
        bought("bob", 45, 5.0),
        bought("dan", 45, 8.0),
    ],
    NOW,
)


def ask(definition: JourneyDefinition | None = None) -> Question:
    return Question("demo", definition or JourneyDefinition("buy"))


def test_no_model_means_every_model() -> None:
    answer = get_attribution(GetAttribution(ask()), LOG, LIMITS)

    assert [*dict.fromkeys(table.model for table in answer.tables)] == [*EVERY_MODEL]
    assert [table.output for table in answer.tables][-2:] == [
        Output.MARKOV_REMOVAL_SHARE,
        Output.MARKOV_PATH_CREDIT,
    ]
    assert {table.model for table in answer.tables} == set(EVERY_MODEL)
    assert answer.watermark == "memory:9"
    assert answer.watermark_time == NOW


def test_counts_and_currencies() -> None:
    answer = get_attribution(GetAttribution(ask()), LOG, LIMITS)

    counts = answer.statistics.counts
    assert (counts.converting, counts.non_converting, counts.direct) == (3, 2, 1)
    assert (counts.value, counts.direct_value, counts.units) == (45.0, 8.0, 3)
    assert answer.statistics.channels == ("ads", "mail", "search")
    assert answer.statistics.by_channel.costs.tolist() == [2.0, 0.0, 2.0]
    assert answer.statistics.by_channel.without_cost.tolist() == [0, 2, 0]
    assert Concern.MIXED_CURRENCIES in {warning.concern for warning in answer.warnings}


def test_the_range_is_of_conversions_and_touches_reach_one_lookback_before_it() -> None:
    definition = JourneyDefinition(
        "buy", lookback_us=30 * DAY_US, start_us=45 * DAY_US, end_us=60 * DAY_US
    )

    answer = get_attribution(
        GetAttribution(replace(ask(definition), models=(Linear(),))), LOG, LIMITS
    )

    # ann's second conversion is out of range, and her touch of day 0 beyond the lookback. cat's
    # touch ended before the range; it is context.
    assert (answer.statistics.counts.converting, answer.statistics.counts.direct) == (2, 1)
    assert answer.statistics.counts.non_converting == 0
    (table,) = answer.tables
    credits_ = {c.channel: (c.conversions, c.value) for c in table.channels}
    assert credits_ == {"ads": (1.5, 20.0), "mail": (0.5, 15.0)}
    assert answer.statistics.by_channel.touches.tolist() == [1, 0]


def test_a_model_asked_for_twice_is_answered_once() -> None:
    models = (Linear(), Markov(), Linear())

    answer = get_attribution(GetAttribution(replace(ask(), models=models)), LOG, LIMITS)

    assert [table.output for table in answer.tables] == [
        Output.LINEAR,
        Output.MARKOV_REMOVAL_SHARE,
        Output.MARKOV_PATH_CREDIT,
    ]


def test_a_project_without_events_gets_an_empty_answer() -> None:
    question = Question("nobody", JourneyDefinition("buy"))

    answer = get_attribution(GetAttribution(question), LOG, LIMITS)

    assert answer.statistics.counts.journeys == 0
    assert all(table.channels == () for table in answer.tables)


@pytest.mark.parametrize("model", EVERY_MODEL)
@pytest.mark.parametrize("repeats", Repeats)
def test_streamed_credits_sum_to_the_totals(model: Model, repeats: Repeats) -> None:
    question = ask(JourneyDefinition("buy", repeats=repeats))

    question = replace(question, models=(model,))
    credits_ = stream_credits(StreamCredits(question), LOG, LIMITS)
    pages = list(credits_.pages)
    totals = get_attribution(
        GetAttribution(replace(question, models=(model,))), LOG, LIMITS
    ).tables[-1]

    assert [len(page.weights) for page in pages[:-1]] == [2] * (len(pages) - 1)
    assert sum(len(page.weights) for page in pages) == credits_.count
    by_channel, by_conversion = sums(pages)
    for channel in totals.channels:
        assert by_channel[channel.channel] == pytest.approx((channel.conversions, channel.value))
    assert list(by_conversion.values()) == pytest.approx([1.0] * credits_.conversions)
    assert sum(value for _, value in by_channel.values()) == pytest.approx(credits_.value)


@pytest.mark.parametrize("model", EVERY_MODEL)
def test_a_rule_reads_the_touches_of_units_that_convert_alone_and_credits_the_same(
    model: Model,
) -> None:
    class Watched(MemoryJourneyLog):
        def read(self, query: EventQuery) -> JourneyEvents:
            asked.append(query)
            return LOG.read(query)

    asked: list[EventQuery] = []
    command = StreamCredits(replace(ask(), models=(model,)))

    alone = stream_credits(command, Watched([], [], NOW), LIMITS)

    assert [query.converting for query in asked] == [not isinstance(model, Markov)]
    assert list(alone.pages) == list(computed_credits(command, LOG, LIMITS).credits().pages)


def sums(pages: list[CreditPage]) -> tuple[dict[str, tuple[float, float]], dict[str, float]]:
    by_channel: dict[str, tuple[float, float]] = defaultdict(lambda: (0.0, 0.0))
    by_conversion: dict[str, float] = defaultdict(float)
    for page in pages:
        rows = zip(page.channels, page.conversion_ids, page.weights, page.values, strict=True)
        for channel, conversion, weight, value in rows:
            before = by_channel[channel]
            by_channel[channel] = (before[0] + weight, before[1] + value)
            by_conversion[conversion] += weight
    return by_channel, by_conversion


def test_credits_come_by_unit_conversion_and_touch() -> None:
    credits_ = stream_credits(
        StreamCredits(replace(ask(), models=(Linear(),))), LOG, AttributionLimits()
    )

    (page,) = credits_.pages
    assert page.unit_ids == ["ann", "ann", "ann", "ann", "bob"]
    assert page.conversion_ids == ["c-ann-51", "c-ann-51", "c-ann-60", "c-ann-60", "c-bob-45"]
    assert page.touch_ids == ["t-ann-40", "t-ann-50", "t-ann-40", "t-ann-50", "t-bob-41"]
    assert page.channels == ["mail", "ads", "mail", "ads", "ads"]
    assert page.values == [15.0, 15.0, 5.0, 5.0, 5.0]
    assert page.touch_times[0] == 40 * DAY_US
    assert page.conversion_times[0] == 51 * DAY_US


def test_too_many_channels_are_refused_with_the_limit() -> None:
    with pytest.raises(DomainError, match="distinct channels is 3; at most 2") as refusal:
        get_attribution(GetAttribution(ask()), LOG, AttributionLimits(max_channels=2))
    assert refusal.value.code is Code.RESOURCE_EXHAUSTED


@pytest.mark.parametrize(
    ("start_us", "end_us", "field"),
    [
        (5, 5, "end_time"),
        (6, 5, "end_time"),
        (-(10**18), None, "start_time"),
        (None, 10**18, "end"),
    ],
)
def test_a_range_that_cannot_be_is_refused(
    start_us: int | None, end_us: int | None, field: str
) -> None:
    with pytest.raises(DomainError, match=field):
        JourneyDefinition("buy", start_us=start_us, end_us=end_us)
