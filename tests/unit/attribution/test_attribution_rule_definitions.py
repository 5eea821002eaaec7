"""The definitions that products do not agree on, by the tables that they publish, and by hand."""

from collections.abc import Sequence

import numpy as np
import pytest

from services.attribution.domain.credits import credits_by_channel
from services.attribution.domain.events import Conversions, Facets, Touches
from services.attribution.domain.journeys import DAY_US, JourneyRules, Journeys, build_journeys
from services.attribution.domain.milestones import NOT_REACHED, JourneyMilestones, full_path
from services.attribution.domain.models import (
    ByPosition,
    CountFrom,
    Custom,
    DecayAge,
    FullPath,
    LastNonDirect,
    LastTouch,
    Linear,
    LinearOver,
    Milestone,
    Output,
    Participation,
    Position,
    PositionVariant,
    RankDecay,
    RuleModel,
    SameTouch,
    TimeDecay,
    TwoTouchRule,
    inverse_j_shaped,
    j_shaped,
    output_of,
    u_shaped,
    w_shaped,
    z_shaped,
)
from services.attribution.domain.rules import position, touch_weights
from shared.errors import Code, DomainError
from tests.unit.attribution.journey_cases import journeys_of_paths

SPLIT = TwoTouchRule.SPLIT_MIDDLE
PENULTIMATE = PositionVariant.PENULTIMATE


def weights_of(model: RuleModel, path: str) -> list[float]:
    weights = touch_weights(model, journeys_of_paths([(path, 1.0)]))
    return [round(weight, 6) for weight in weights.tolist()]


def positions_of(model: Position, touches: int) -> list[float]:
    weights = position.position(np.array([0, touches]), model)
    return [round(weight, 6) for weight in weights.tolist()]


@pytest.mark.parametrize(
    ("model", "touches", "expected"),
    [
        # Adobe Analytics, attribution models: with two touches the middle is dropped.
        (u_shaped(), 2, [0.5, 0.5]),
        (j_shaped(), 2, [0.25, 0.75]),
        (inverse_j_shaped(), 2, [0.75, 0.25]),
        # Mixpanel: a J of six touches.
        (j_shaped(), 6, [0.2, 0.05, 0.05, 0.05, 0.05, 0.6]),
        # Amplitude: with two touches the middle is split; the worked table of four touches.
        (u_shaped(), 4, [0.4, 0.1, 0.1, 0.4]),
        (j_shaped(SPLIT), 2, [0.3, 0.7]),
        (inverse_j_shaped(SPLIT), 2, [0.7, 0.3]),
        (j_shaped(SPLIT), 4, [0.2, 0.1, 0.1, 0.6]),
        # Amplitude, the text of the same page: last 60, the one before 20, the rest 20.
        (j_shaped(SPLIT, PENULTIMATE), 4, [0.1, 0.1, 0.2, 0.6]),
        (inverse_j_shaped(SPLIT, PENULTIMATE), 4, [0.6, 0.2, 0.1, 0.1]),
        (j_shaped(variant=PENULTIMATE), 3, [0.2, 0.2, 0.6]),
        (inverse_j_shaped(variant=PENULTIMATE), 2, [0.75, 0.25]),
        (j_shaped(variant=PENULTIMATE), 1, [1.0]),
    ],
)
def test_published_tables_of_position(model: Position, touches: int, expected: list[float]) -> None:
    assert positions_of(model, touches) == expected


def test_a_u_has_no_heavier_end() -> None:
    with pytest.raises(DomainError, match="heavier"):
        Position(0.4, 0.4, variant=PENULTIMATE)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("A>direct>B>direct", [0, 0, 1, 0]),
        ("A>direct", [1, 0]),
        ("direct>direct", [0, 1]),
        ("A>B", [0, 1]),
    ],
)
def test_last_non_direct(path: str, expected: list[float]) -> None:
    assert weights_of(LastNonDirect(), path) == expected


def test_several_channels_can_be_direct() -> None:
    model = LastNonDirect(frozenset({"direct", "branded", "never used"}))

    assert weights_of(model, "A>branded>direct") == [1, 0, 0]


@pytest.mark.parametrize(
    ("over", "expected"),
    [
        (LinearOver.TOUCHES, [0.25, 0.25, 0.25, 0.25]),
        (LinearOver.CHANNELS, [0.166667, 0.166667, 0.5, 0.166667]),
        (LinearOver.RUNS, [0.166667, 0.166667, 0.333333, 0.333333]),
    ],
)
def test_linear_over_touches_channels_and_runs(over: LinearOver, expected: list[float]) -> None:
    assert weights_of(Linear(over), "A>A>B>A") == expected


def test_runs_end_with_their_journey() -> None:
    weights = touch_weights(
        Linear(LinearOver.RUNS), journeys_of_paths([("A>B", 1.0), ("B>A", 1.0)])
    )

    assert weights.tolist() == [0.5] * 4


def test_rank_decay_and_weights_by_position() -> None:
    assert weights_of(RankDecay(), "A>B>C") == [0.166667, 0.333333, 0.5]
    assert weights_of(ByPosition((2.0, 1.0)), "A>B>C>D") == [0.666667, 0.333333, 0, 0]
    from_last = ByPosition((2.0, 1.0), CountFrom.LAST, beyond=1.0)
    assert weights_of(from_last, "A>B>C>D") == [0.2, 0.2, 0.2, 0.4]
    assert weights_of(ByPosition((0.0, 0.0, 1.0)), "A>B") == [0.5, 0.5]


def test_custom_weights_need_not_sum_to_a_hundred() -> None:
    assert weights_of(Custom(30, 60, 30), "A>B>C>D") == [0.25, 0.25, 0.25, 0.25]
    assert weights_of(Custom(10, 20, 70), "A>B") == [0.2, 0.8]
    assert weights_of(Custom(10, 20, 70, TwoTouchRule.RENORMALISE), "A>B") == [0.125, 0.875]


@pytest.mark.parametrize("weights", [(0.0, 0.0, 0.0), (-1.0, 1.0, 1.0), (float("nan"), 1.0, 1.0)])
def test_custom_refuses_weights_without_a_sum(weights: tuple[float, float, float]) -> None:
    with pytest.raises(DomainError) as refusal:
        Custom(*weights)
    assert refusal.value.code is Code.INVALID_ARGUMENT
    with pytest.raises(DomainError):
        ByPosition(weights)


def test_participation_counts_a_conversion_for_each_channel() -> None:
    journeys = journeys_of_paths([("A>B>A", 10.0), ("A", 1.0), ("B", None)])

    found = credits_by_channel(touch_weights(Participation(), journeys), journeys)

    assert found.conversions == pytest.approx([2, 1])
    assert found.values == pytest.approx([11, 10])
    assert not output_of(Participation()).additive
    assert [output for output in Output if not output.additive] == [Output.PARTICIPATION]


def journey_at(minutes: Sequence[int], conversion: int) -> Journeys:
    minute = 60_000_000
    count = len(minutes)
    touches = Touches(
        ("A",),
        np.zeros(count, dtype=np.int64),
        np.array(minutes) * minute,
        np.zeros(count, dtype=np.int32),
        np.full(count, np.nan),
    )
    bought = Conversions(np.array([0]), np.array([conversion * minute]), np.ones(1))
    return build_journeys(touches, bought, JourneyRules())


def test_same_touch_credits_the_instant_of_the_conversion_or_nothing() -> None:
    def same(minutes: Sequence[int], model: SameTouch) -> list[float]:
        return [*touch_weights(model, journey_at(minutes, 10))]

    assert same([1, 10], SameTouch()) == [0, 1]
    assert same([1, 10, 10], SameTouch()) == [0, 0.5, 0.5]
    assert same([1, 9], SameTouch()) == [0, 0]
    assert same([1, 9], SameTouch(60_000_000)) == [0, 1]


def test_whole_half_lives_depend_on_where_one_counts_from() -> None:
    # Touches 100, 60 and 20 minutes before the conversion; half-life 30 minutes.
    journeys = journey_at([0, 40, 80], 100)
    half_life = 30 * 60_000_000

    def decayed(age: DecayAge) -> list[float]:
        weights = touch_weights(TimeDecay(half_life, age), journeys)
        return [*(weights / weights[-1])]

    assert decayed(DecayAge.EXACT) == pytest.approx([2 ** (-80 / 30), 2 ** (-40 / 30), 1])
    # Ages 3, 2, 0 from the conversion; 2, 1, 0 from the last touch.
    assert decayed(DecayAge.WHOLE_FROM_CONVERSION) == pytest.approx([1 / 8, 1 / 4, 1])
    assert decayed(DecayAge.WHOLE_FROM_LAST_TOUCH) == pytest.approx([1 / 4, 1 / 2, 1])


def test_a_shared_age_cancels() -> None:
    near, far = journey_at([0, 40], 40), journey_at([0, 40], 40 + 20 * 24 * 60)
    model = TimeDecay(DAY_US // 24)

    assert touch_weights(model, near).tolist() == touch_weights(model, far).tolist()


@pytest.mark.parametrize(
    ("model", "positions", "expected"),
    [
        # Lead after the second touch, opportunity after the fourth, of five.
        (w_shaped(), [1, 3], [0.3, 0.3, 0.05, 0.3, 0.05]),
        (z_shaped(), [1, 3], [0.225, 0.225, 0.1, 0.225, 0.225]),
        # Both milestones after the same touch: their weights add.
        (w_shaped(), [1, 1], [0.3, 0.6, 0.1 / 3, 0.1 / 3, 0.1 / 3]),
        # The first touch made the lead.
        (w_shaped(), [0, 4], [0.6, 0.1 / 3, 0.1 / 3, 0.1 / 3, 0.3]),
        # No opportunity: what is left is .7 of which the others have .1.
        (w_shaped(), [1, NOT_REACHED], [3 / 7, 3 / 7, 1 / 21, 1 / 21, 1 / 21]),
    ],
)
def test_milestones(model: FullPath, positions: list[int], expected: list[float]) -> None:
    milestones = JourneyMilestones(("lead", "opportunity"), np.array([positions]))

    weights = full_path(np.array([0, 5]), model, milestones)

    assert weights == pytest.approx(expected)


def test_milestones_without_other_touches_share_everything() -> None:
    milestones = JourneyMilestones(("lead", "opportunity"), np.array([[1, 2], [0, 0]]))

    weights = full_path(np.array([0, 3, 4]), w_shaped(), milestones)

    assert weights == pytest.approx([1 / 3, 1 / 3, 1 / 3, 1])


def test_milestones_are_found_by_name_and_must_be_there() -> None:
    journeys = journeys_of_paths([("A>B>C", 1.0)])
    milestones = JourneyMilestones(("demo", "lead"), np.array([[2, 1]]))
    model = FullPath(0.5, (Milestone("demo", 0.25),))

    assert touch_weights(model, journeys, milestones) == pytest.approx([0.5, 0.25, 0.25])
    with pytest.raises(DomainError, match="opportunity"):
        touch_weights(w_shaped(), journeys, milestones)
    with pytest.raises(DomainError, match="milestones"):
        touch_weights(model, journeys)
    with pytest.raises(DomainError, match="off its journey"):
        full_path(
            np.array([0, 2]), w_shaped(), JourneyMilestones(w_shaped().names, np.array([[1, 2]]))
        )


@pytest.mark.parametrize(
    "arguments",
    [
        (0.5, ()),
        (0.5, (Milestone("a", 0.1), Milestone("a", 0.1))),
        (0.5, (Milestone("a", 0.6),)),
        (0.0, (Milestone("a", 0.6),)),
        (0.5, (Milestone("a", float("nan")),)),
    ],
)
def test_full_path_refuses_weights_that_say_nothing(
    arguments: tuple[float, tuple[Milestone, ...]],
) -> None:
    with pytest.raises(DomainError) as refusal:
        FullPath(*arguments)
    assert refusal.value.code is Code.INVALID_ARGUMENT


def test_last_non_direct_looks_at_the_channel_whatever_is_credited() -> None:
    """Credited by campaign, the last click that was not direct is another campaign's."""
    touches = Touches(
        channels=("brand", "spring"),
        units=np.zeros(3, dtype=np.int64),
        times=np.array([1, 2, 3]),
        codes=np.array([0, 1, 1], dtype=np.int32),
        costs=np.full(3, np.nan),
        facets=Facets(
            ("direct", "search"), np.array([1, 0, 0], dtype=np.int32), ("",), np.zeros(3, np.int32)
        ),
    )
    bought = Conversions(np.zeros(1, np.int64), np.array([4]), np.ones(1))
    journeys = build_journeys(touches, bought, JourneyRules())

    assert touch_weights(LastNonDirect(), journeys).tolist() == [1.0, 0.0, 0.0]
    assert touch_weights(LastTouch(), journeys).tolist() == [0.0, 0.0, 1.0]
