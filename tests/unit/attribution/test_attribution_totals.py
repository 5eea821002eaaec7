"""Statistics, totals and warnings: sums, merges, undefined ratios."""

from collections.abc import Sequence
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from services.attribution.domain.journey_statistics import JourneyStatistics, measure
from services.attribution.domain.journeys import (
    BEGINNING_OF_TIME_US,
    DAY_US,
    JourneyRules,
    Repeats,
    build_journeys,
)
from services.attribution.domain.models import (
    EVERY_MODEL,
    FirstTouch,
    LastTouch,
    Linear,
    Markov,
    Model,
    Output,
    Participation,
    Position,
    SameTouch,
)
from services.attribution.domain.reported import hide_channels
from services.attribution.domain.sufficiency import Concern, data_warnings
from services.attribution.domain.totals import ModelTotals, model_totals
from shared.errors import DomainError
from tests.unit.attribution.journey_cases import (
    CONVERSION_ROWS,
    DAYS,
    PATHS,
    RULES,
    TOUCH_ROWS,
    ConversionRow,
    Paths,
    TouchRow,
    conversions_of,
    events_of_paths,
    journeys_of_paths,
    touches_of,
)

CHANNELS = ("ads", "mail", "search", "video")
MODELS = (*EVERY_MODEL, Markov(order=2), Markov(True, 3))


def statistics_of(
    touch_rows: list[TouchRow],
    conversion_rows: list[ConversionRow],
    rules: JourneyRules,
    models: Sequence[Model] = MODELS,
) -> JourneyStatistics:
    touches = touches_of(touch_rows, CHANNELS, [1.5] * len(touch_rows))
    journeys = build_journeys(touches, conversions_of(conversion_rows), rules)
    return measure(touches, journeys, models, rules.start_us)


def totals_of_paths(
    paths: Paths,
    models: Sequence[Model] = MODELS,
    channels: Sequence[str] = ("A", "B", "C", "D"),
) -> tuple[JourneyStatistics, list[ModelTotals]]:
    touches, _ = events_of_paths(paths, channels)
    journeys = journeys_of_paths(paths, channels)
    statistics = measure(touches, journeys, models, 0)
    return statistics, [
        table for model in models for table in model_totals(model, statistics, journeys)
    ]


def conversions_by_channel(table: ModelTotals) -> dict[str, float]:
    return {channel.channel: channel.conversions for channel in table.channels}


def assert_equal_statistics(left: JourneyStatistics, right: JourneyStatistics) -> None:
    for part in ("counts", "by_channel", "converting_steps", "other_steps"):
        for field in fields(getattr(left, part)):
            np.testing.assert_allclose(
                getattr(getattr(left, part), field.name),
                getattr(getattr(right, part), field.name),
                atol=1e-9,
                err_msg=f"{part}.{field.name}",
            )
    assert left.chains.keys() == right.chains.keys()
    for order, chains in left.chains.items():
        for mine, theirs in zip(chains, right.chains[order], strict=True):
            for field in fields(mine):
                np.testing.assert_array_equal(
                    getattr(mine, field.name), getattr(theirs, field.name), err_msg=field.name
                )
    assert left.rule_credits.keys() == right.rule_credits.keys()
    for model, credits_ in left.rule_credits.items():
        other = right.rule_credits[model]
        np.testing.assert_allclose(credits_.conversions, other.conversions, atol=1e-9)
        np.testing.assert_allclose(credits_.values, other.values, atol=1e-9)


@given(TOUCH_ROWS, CONVERSION_ROWS, RULES, st.integers(0, 7))
def test_shards_of_units_merge_to_one_run(
    touch_rows: list[TouchRow],
    conversion_rows: list[ConversionRow],
    rules: JourneyRules,
    border: int,
) -> None:
    def shard(low: int, high: int) -> JourneyStatistics:
        return statistics_of(
            [row for row in touch_rows if low <= row[0] < high],
            [row for row in conversion_rows if low <= row[0] < high],
            rules,
        )

    merged = shard(0, border) + shard(border, 100)

    assert_equal_statistics(merged, statistics_of(touch_rows, conversion_rows, rules))


@given(TOUCH_ROWS, CONVERSION_ROWS, RULES, st.integers(0, 7))
def test_what_was_merged_expires_again(
    touch_rows: list[TouchRow],
    conversion_rows: list[ConversionRow],
    rules: JourneyRules,
    border: int,
) -> None:
    kept = statistics_of(
        [row for row in touch_rows if row[0] >= border],
        [row for row in conversion_rows if row[0] >= border],
        rules,
    )
    gone = statistics_of(
        [row for row in touch_rows if row[0] < border],
        [row for row in conversion_rows if row[0] < border],
        rules,
    )

    expired = (gone + kept) - gone

    assert_equal_statistics(expired, kept)
    assert expired.converting_steps.steps.tolist() == kept.converting_steps.steps.tolist()
    for credits_ in expired.rule_credits.values():
        assert not credits_.conversions[kept.by_channel.converting == 0].any()
        assert not credits_.values[kept.by_channel.converting == 0].any()


@given(TOUCH_ROWS, CONVERSION_ROWS, RULES, DAYS)
def test_adjacent_time_ranges_add_up_in_what_converted(
    touch_rows: list[TouchRow],
    conversion_rows: list[ConversionRow],
    rules: JourneyRules,
    border: int,
) -> None:
    """Of repeats, FIRST is left out: a unit has a first conversion in each range."""
    assume(rules.repeats is not Repeats.FIRST)
    whole = replace(rules, start_us=BEGINNING_OF_TIME_US)

    earlier = statistics_of(
        [row for row in touch_rows if row[1] < border],
        [row for row in conversion_rows if row[1] < border],
        whole,
    )
    later = statistics_of(touch_rows, conversion_rows, replace(rules, start_us=border))
    added, expected = earlier + later, statistics_of(touch_rows, conversion_rows, whole)

    assert added.counts.converting == expected.counts.converting
    assert added.counts.value == pytest.approx(expected.counts.value)
    assert added.counts.direct == expected.counts.direct
    assert added.by_channel.converting.tolist() == expected.by_channel.converting.tolist()
    assert added.converting_steps.steps.tolist() == expected.converting_steps.steps.tolist()
    for model, credits_ in expected.rule_credits.items():
        found = added.rule_credits[model]
        np.testing.assert_allclose(found.conversions, credits_.conversions, atol=1e-9)
        np.testing.assert_allclose(found.values, credits_.values, atol=1e-9)


@given(PATHS)
def test_every_model_hands_out_each_conversion_once(paths: Paths) -> None:
    statistics, tables = totals_of_paths(paths)

    for table in tables:
        assert sum(c.conversions for c in table.channels) == pytest.approx(
            statistics.counts.converting
        )
        assert sum(c.value for c in table.channels) == pytest.approx(statistics.counts.value)
        if statistics.counts.converting:
            assert sum(c.share or 0.0 for c in table.channels) == pytest.approx(1)


@given(PATHS)
def test_repeating_every_journey_scales_totals(paths: Paths) -> None:
    _, once = totals_of_paths(paths)
    _, twice = totals_of_paths(paths * 2)

    for single, double in zip(once, twice, strict=True):
        for left, right in zip(single.channels, double.channels, strict=True):
            assert right.conversions == pytest.approx(2 * left.conversions)
            assert right.value == pytest.approx(2 * left.value)
            assert right.share == pytest.approx(left.share)


@given(PATHS)
def test_renaming_channels_permutes_totals(paths: Paths) -> None:
    names = str.maketrans("ABCD", "CADB")
    _, before = totals_of_paths(paths)
    _, after = totals_of_paths([(path.translate(names), value) for path, value in paths])

    for left, right in zip(before, after, strict=True):
        renamed = {
            channel.translate(names): credit
            for channel, credit in conversions_by_channel(left).items()
        }
        assert renamed == pytest.approx(conversions_by_channel(right))


def test_totals_by_hand() -> None:
    paths: Paths = [("A>B>A", 9.0), ("B", 1.0), ("A", None)]
    _, tables = totals_of_paths(paths, EVERY_MODEL, ("A", "B"))
    by_output = {table.output: conversions_by_channel(table) for table in tables}

    assert by_output[Output.FIRST_TOUCH] == {"A": 1, "B": 1}
    assert by_output[Output.LAST_TOUCH] == {"A": 1, "B": 1}
    assert by_output[Output.LINEAR] == pytest.approx({"A": 2 / 3, "B": 4 / 3})
    assert by_output[Output.POSITION_BASED] == pytest.approx({"A": 0.8, "B": 1.2})
    # A: to B 1/3, conversion 1/3, null 1/3. B: to A 1/2, conversion 1/2. So p_A = 3/5, p_B = 4/5.
    # p_0 = 2/3 p_A + 1/3 p_B = 2/3; without A 1/6, without B 2/9: effects 3/4 and 2/3.
    effects = {c.channel: c.removal_effect for c in tables[-1].channels}
    assert effects == pytest.approx({"A": 3 / 4, "B": 2 / 3})
    assert by_output[Output.MARKOV_REMOVAL_SHARE] == pytest.approx({"A": 18 / 17, "B": 16 / 17})
    assert by_output[Output.MARKOV_PATH_CREDIT] == pytest.approx({"A": 9 / 17, "B": 25 / 17})


def test_what_is_not_additive_or_not_credited_says_so() -> None:
    paths: Paths = [("A>B>A", 9.0), ("B", 1.0), ("A", None)]
    _, (took_part, same) = totals_of_paths(paths, (Participation(), SameTouch()), ("A", "B"))

    assert not took_part.additive
    assert conversions_by_channel(took_part) == {"A": 1, "B": 2}
    assert [c.share for c in took_part.channels] == [0.5, 1.0]
    assert same.additive
    assert same.uncredited == 2
    assert conversions_by_channel(same) == {"A": 0, "B": 0}


def test_an_order_that_was_not_measured_does_not_merge() -> None:
    one, _ = totals_of_paths([("A>B", 1.0)], (Markov(order=2),))
    other, _ = totals_of_paths([("A>B", 1.0)], (Markov(order=3),))

    with pytest.raises(DomainError, match="order"):
        one + other


def test_two_models_of_one_kind_stand_side_by_side() -> None:
    models = (Position(), Position(0.1, 0.9), Markov(), Markov(ignore_non_converting=True))
    _, tables = totals_of_paths([("A>B>C", 1.0), ("A", None)], models)

    assert [table.model for table in tables] == [*models[:2], models[2], models[2], *models[3:] * 2]
    assert conversions_by_channel(tables[1])["C"] == pytest.approx(0.9)


def test_cost_ratios_are_undefined_without_cost_or_credit() -> None:
    touches = touches_of(
        [(1, 0, "free"), (1, 1, "paid"), (2, 0, "idle"), (2, 1, "unknown")],
        costs=[0.0, 4.0, 3.0, np.nan],
    )
    journeys = build_journeys(touches, conversions_of([(1, 2, 10.0)]), JourneyRules())
    statistics = measure(touches, journeys, [Linear()], 0)
    (table,) = model_totals(Linear(), statistics, journeys)
    found = {c.channel: (c.cost_per_conversion, c.return_on_spend) for c in table.channels}

    assert found == {
        "free": (None, None),
        "idle": (None, 0.0),
        "paid": (8.0, 1.25),
        "unknown": (None, None),
    }
    assert statistics.by_channel.without_cost.tolist() == [0, 0, 0, 1]


def test_a_touch_is_paid_for_once_however_many_journeys_it_stands_in() -> None:
    touches = touches_of([(1, 0, "a"), (1, 5, "a")], costs=[2.0, 3.0])
    conversions = conversions_of([(1, 6, 1.0), (1, 7, 1.0), (1, 8, 1.0)])
    journeys = build_journeys(touches, conversions, JourneyRules(start_us=5))

    statistics = measure(touches, journeys, [], 5)

    assert statistics.by_channel.costs.tolist() == [3.0]
    assert statistics.by_channel.touches.tolist() == [1]
    assert statistics.by_channel.journeys.tolist() == [3]
    assert statistics.counts.units == 1


@given(TOUCH_ROWS, CONVERSION_ROWS, RULES)
def test_direct_and_credited_conversions_are_all_there_are(
    touch_rows: list[TouchRow], conversion_rows: list[ConversionRow], rules: JourneyRules
) -> None:
    counts = statistics_of(touch_rows, conversion_rows, rules).counts

    in_range = [row for row in conversion_rows if row[1] >= rules.start_us]
    assert counts.converting + counts.direct + counts.repeats_left_out == len(in_range)
    assert counts.non_converting >= 0


def test_statistics_of_other_channels_or_models_do_not_add() -> None:
    touches, _ = events_of_paths([("A", 1.0)])
    journeys = journeys_of_paths([("A", 1.0)])
    other_touches, _ = events_of_paths([("B", 1.0)])
    left = measure(touches, journeys, [Linear()], 0)

    with pytest.raises(DomainError, match="channels"):
        left + measure(other_touches, journeys_of_paths([("B", 1.0)]), [Linear()], 0)
    with pytest.raises(DomainError, match="models"):
        left + measure(touches, journeys, [FirstTouch(), LastTouch()], 0)


def counted(paths: Paths) -> JourneyStatistics:
    return measure(events_of_paths(paths)[0], journeys_of_paths(paths), [Linear()], 0)


def test_few_data_are_warned_of() -> None:
    statistics, _ = totals_of_paths([("A>B", 1.0), ("A>C", None)])

    found = {(warning.concern, warning.channel) for warning in data_warnings(statistics)}

    assert found == {
        (Concern.FEW_CONVERSIONS, ""),
        (Concern.FEW_TOUCHES, ""),
        (Concern.MANY_STATES, ""),
        (Concern.RARE_CHANNEL, "A"),
        (Concern.RARE_CHANNEL, "B"),
        (Concern.NEVER_CONVERTS, "C"),
    }


def test_many_thin_channels_are_one_warning_that_names_the_worst() -> None:
    paths: Paths = [(f"rare{n:03}", 1.0) for n in range(500) for _ in range(1 + n % 3)]
    paths += [(f"never{n}", None) for n in range(11) for _ in range(1 + n)]
    found = data_warnings(counted(paths))

    (rare,) = (each for each in found if each.concern is Concern.RARE_CHANNEL)
    assert (rare.channel, rare.message.split()[:2]) == ("", ["500", "channels"])
    assert "'rare000' (1), 'rare003' (1), 'rare006' (1), 'rare009' (1), 'rare012' (1):" in (
        rare.message
    )
    (never,) = (each for each in found if each.concern is Concern.NEVER_CONVERTS)
    assert never.message.startswith("11 channels")
    assert "'never10' (11), 'never9' (10)" in never.message


def test_many_thin_channels_are_named_only_where_they_are_told_of() -> None:
    paths: Paths = [(f"c{n:02}", 1.0) for n in range(12) for _ in range(1 + n // 6)]
    statistics = counted(paths)
    hidden = hide_channels(journeys_of_paths(paths), statistics.by_channel, 2)

    found = data_warnings(statistics, (), hidden)

    named = [each.channel for each in found if each.concern is Concern.RARE_CHANNEL]
    assert named == [f"c{n:02}" for n in range(6, 12)]
    assert not any("'c00'" in each.message for each in found)


def test_enough_data_are_not_warned_of() -> None:
    statistics, _ = totals_of_paths([("A>B>A>B>A>B>A>B>A>B", 1.0)] * 200 + [("A", None)])

    assert data_warnings(statistics, ("EUR",)) == ()


def test_mixed_currencies_and_missing_failures_are_warned_of() -> None:
    statistics, _ = totals_of_paths([("A>B>A>B>A>B>A>B>A>B", 1.0)] * 200)

    concerns = [warning.concern for warning in data_warnings(statistics, ("EUR", "USD"))]

    assert concerns == [Concern.NO_NON_CONVERTING, Concern.MIXED_CURRENCIES]


def test_truncated_journeys_are_warned_of() -> None:
    touches = touches_of([(1, day * DAY_US, "a") for day in range(5)])
    journeys = build_journeys(
        touches, conversions_of([(1, 5 * DAY_US, 1.0)]), JourneyRules(max_touches=2)
    )

    statistics = measure(touches, journeys, [], 0)

    assert Concern.JOURNEYS_TRUNCATED in {w.concern for w in data_warnings(statistics)}
