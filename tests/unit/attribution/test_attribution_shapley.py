"""Shapley attribution: by hand, against the definition over all orders, and its invariants."""

from collections.abc import Callable
from itertools import combinations, permutations
from math import factorial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.attribution.domain.channel_sets import SetHistogram, count_sets
from services.attribution.domain.credits import credits_by_channel
from services.attribution.domain.shapley import Game
from services.attribution.domain.shapley.additive import ordered, simplified, touch_weights
from services.attribution.domain.shapley.lattice import (
    by_player,
    equal_parts,
    moebius,
    over_supersets,
    values_within,
    zeta,
)
from services.attribution.domain.shapley.learned import Sampling, learned_values
from services.attribution.domain.shapley.rates import rate_game, rate_shares
from shared.errors import DomainError
from tests.unit.attribution.journey_cases import PATHS, Paths, journeys_of_paths

Worth = Callable[[frozenset[str]], float]
RATES = st.sampled_from([Game.EXACT_SET_RATE, Game.SUBSET_RATE])


def histogram_of(paths: Paths, channels: str = "ABCD") -> SetHistogram:
    return count_sets(journeys_of_paths(paths, tuple(channels)))


def by_orders(players: str, worth: Worth) -> dict[str, float]:
    """The definition: the mean gain over every order of the players."""
    gains = dict.fromkeys(players, 0.0)
    for order in permutations(players):
        for place, player in enumerate(order):
            before = frozenset(order[:place])
            gains[player] += worth(before | {player}) - worth(before)
    return {player: gain / factorial(len(players)) for player, gain in gains.items()}


def converted_within(paths: Paths) -> Worth:
    return lambda group: sum(
        value is not None and set(path.split(">")) <= group for path, value in paths
    )


def rate_of(game: Game, paths: Paths) -> Worth:
    def worth(group: frozenset[str]) -> float:
        def counts(path: str) -> bool:
            own = set(path.split(">"))
            return own == group if game is Game.EXACT_SET_RATE else own <= group

        seen = [value is not None for path, value in paths if counts(path)]
        return sum(seen) / len(seen) if seen else 0.0

    return worth


def test_simplified_by_hand() -> None:
    # A>B>A gives 1/2 each of 9.0; B alone gives 1 and 1.0; the journey without conversion none.
    found = simplified(histogram_of([("A>B>A", 9.0), ("B", 1.0), ("A", None)], "AB"))

    assert found.conversions == pytest.approx([0.5, 1.5])
    assert found.values == pytest.approx([4.5, 5.5])


@settings(max_examples=25)
@given(PATHS)
def test_simplified_is_the_mean_over_all_orders(paths: Paths) -> None:
    expected = by_orders("ABCD", converted_within(paths))

    assert simplified(histogram_of(paths)).conversions == pytest.approx([*expected.values()])


@given(PATHS, st.integers(1, 8))
def test_ordered_parts_sum_to_the_simplified_game(paths: Paths, positions: int) -> None:
    journeys = journeys_of_paths(paths, tuple("ABCD"))
    whole, parts = simplified(count_sets(journeys)), ordered(journeys, positions)

    assert parts.conversions.sum(axis=0) == pytest.approx(whole.conversions)
    assert parts.values.sum(axis=0) == pytest.approx(whole.values)
    assert parts.conversions.shape == (positions, 4)


def test_ordered_by_hand() -> None:
    # In A>B>A both channels get 1/2; A's half is split over its places 1 and 3.
    found = ordered(journeys_of_paths([("A>B>A", 4.0), ("B", 1.0)], ("A", "B")), 3)

    assert found.conversions.tolist() == [[0.25, 1.0], [0.0, 0.5], [0.25, 0.0]]
    assert found.values.tolist() == [[1.0, 1.0], [0.0, 2.0], [1.0, 0.0]]


@given(PATHS)
def test_weights_of_touches_sum_to_one_a_conversion_and_to_the_channel_totals(
    paths: Paths,
) -> None:
    journeys = journeys_of_paths(paths, tuple("ABCD"))
    weights, whole = touch_weights(journeys), simplified(count_sets(journeys))
    credits_ = credits_by_channel(weights, journeys)

    if journeys.converting:
        sums = np.add.reduceat(weights, journeys.converting_offsets[:-1])
        assert sums == pytest.approx(np.ones(journeys.converting))
    assert credits_.conversions == pytest.approx(whole.conversions)
    assert credits_.values == pytest.approx(whole.values)


def test_rate_games_by_hand() -> None:
    # Rates: A 1/2, B 0/1, AB 1/1. Of AB: A gets (1/2 + (1 - 0))/2 = 3/4 and B (0 + 1/2)/2 = 1/4.
    paths: Paths = [("A", 1.0), ("A", None), ("B", None), ("A>B", 8.0)]
    exact = rate_game(Game.EXACT_SET_RATE, histogram_of(paths, "AB"))

    assert exact.values == pytest.approx([0.75, 0.25])
    assert exact.credits.conversions == pytest.approx([1.75, 0.25])
    assert exact.credits.values == pytest.approx([7.0, 2.0])
    # Of all four journeys two converted: A gets (1/2 + (1/2 - 0))/2 = 1/2 and B 0.
    subset = rate_game(Game.SUBSET_RATE, histogram_of(paths, "AB"))
    assert subset.values == pytest.approx([0.5, 0.0])
    assert subset.everyone == 0.5
    assert subset.credits.conversions == pytest.approx([2.0, 0.0])


def test_a_channel_may_get_less_than_nothing_in_a_rate_game() -> None:
    paths: Paths = [("A", 1.0), ("B", None), ("A>B", 1.0), *[("A>B", None)] * 9]

    found = rate_game(Game.EXACT_SET_RATE, histogram_of(paths, "AB"))

    # Rates 1, 0 and 1/10: A (1 + 1/10)/2 = .55, B (0 - .9)/2 = -.45, of a conversion rate of .1.
    assert found.credits.conversions == pytest.approx([1 + 5.5, -4.5])


@settings(max_examples=25)
@given(PATHS, RATES)
def test_rate_games_are_the_mean_over_all_orders(paths: Paths, game: Game) -> None:
    found = rate_game(game, histogram_of(paths))
    used = "".join(sorted({step for path, _ in paths for step in path.split(">")}))
    worth = rate_of(game, paths)
    whole = by_orders(used, worth)

    assert found.values == pytest.approx([whole.get(name, 0.0) for name in "ABCD"])
    credits_ = dict.fromkeys("ABCD", 0.0)
    for path, value in paths:
        if value is not None:
            own = "".join(sorted(set(path.split(">"))))
            for name, part in by_orders(own, worth).items():
                credits_[name] += part / worth(frozenset(own))
    assert found.credits.conversions == pytest.approx([*credits_.values()])


@given(PATHS, RATES)
def test_rate_games_hand_out_each_conversion_once(paths: Paths, game: Game) -> None:
    histogram = histogram_of(paths)
    found = rate_game(game, histogram)

    assert found.credits.conversions.sum() == pytest.approx(histogram.conversions.sum())
    assert found.credits.values.sum() == pytest.approx(histogram.values.sum())
    assert found.values.sum() == pytest.approx(found.everyone)


@given(PATHS, st.integers(0, 30))
def test_histograms_of_shards_merge_to_one_run(paths: Paths, border: int) -> None:
    whole = histogram_of(paths)
    left, right = paths[:border], paths[border:]
    if left and right:
        merged = histogram_of(right) + histogram_of(left)
        assert merged.words.tolist() == whole.words.tolist()
        assert merged.journeys.tolist() == whole.journeys.tolist()
        assert merged.conversions.tolist() == whole.conversions.tolist()
        assert merged.values.tolist() == whole.values.tolist()


@given(PATHS, RATES)
def test_renaming_channels_permutes_the_values(paths: Paths, game: Game) -> None:
    names = str.maketrans("ABCD", "CADB")
    renamed: Paths = [(path.translate(names), value) for path, value in paths]
    order = ["ABCD".index(name.translate(names)) for name in "ABCD"]

    before, after = histogram_of(paths), histogram_of(renamed)
    assert simplified(after).conversions[order] == pytest.approx(simplified(before).conversions)
    solved, other = rate_game(game, before), rate_game(game, after)
    assert other.credits.conversions[order] == pytest.approx(solved.credits.conversions)


@given(PATHS, RATES)
def test_a_channel_that_nobody_used_gets_nothing_and_changes_nothing(
    paths: Paths, game: Game
) -> None:
    without, with_ = histogram_of(paths), histogram_of(paths, "ABCDE")

    assert simplified(with_).conversions.tolist() == [*simplified(without).conversions, 0.0]
    solved = rate_game(game, with_).credits.conversions
    assert solved.tolist() == [*rate_game(game, without).credits.conversions, 0.0]


def test_more_than_64_channels() -> None:
    names = tuple(f"c{number:03d}" for number in range(500))
    paths: Paths = [
        ("c000>c064>c499", 3.0),
        ("c064", 1.0),
        ("c000>c064", None),
        (">".join(names[::20]), 5.0),
    ]
    histogram = count_sets(journeys_of_paths(paths, names))
    found = simplified(histogram).conversions

    assert sorted(histogram.sizes.tolist()) == [1, 2, 3, 25]
    assert found[[0, 64, 499]] == pytest.approx([1 / 3 + 1 / 25, 4 / 3, 1 / 3])
    assert found.sum() == pytest.approx(3)
    assert found[[1, 20]] == pytest.approx([0, 1 / 25])
    with pytest.raises(DomainError, match="at most 20 channels"):
        rate_game(Game.SUBSET_RATE, histogram)


def test_twenty_channels_in_a_rate_game() -> None:
    generator = np.random.default_rng(20)
    names = tuple(f"c{number:02d}" for number in range(20))
    paths: Paths = [
        (">".join(generator.choice(names, 5)), 1.0 if generator.random() < 0.2 else None)
        for _ in range(300)
    ]
    found = rate_game(Game.SUBSET_RATE, count_sets(journeys_of_paths(paths, names)))

    assert found.credits.conversions.sum() == pytest.approx(sum(v is not None for _, v in paths))
    assert found.values.sum() == pytest.approx(found.everyone)


@given(PATHS, RATES)
def test_credits_are_those_of_the_shares_of_each_set(paths: Paths, game: Game) -> None:
    histogram = histogram_of(paths)
    shares = rate_shares(game, histogram)
    credits_ = rate_game(game, histogram).credits

    sold = histogram.conversions > 0
    assert shares[sold].sum(axis=1) == pytest.approx(np.ones(np.count_nonzero(sold)))
    assert not shares[~sold].any()
    assert credits_.conversions == pytest.approx(histogram.conversions @ shares)
    assert credits_.values == pytest.approx(histogram.values @ shares)


def test_channels_between_unused_ones_are_the_players() -> None:
    """Of 70 channels three are used, on both sides of the border of a word."""
    names = tuple(f"c{number:02d}" for number in range(70))
    paths: Paths = [("c05", 1.0), ("c05>c66", None), ("c66>c69", 8.0), ("c05>c69>c66", 2.0)]
    few = count_sets(journeys_of_paths(paths, ("c05", "c66", "c69")))
    found = rate_game(Game.SUBSET_RATE, count_sets(journeys_of_paths(paths, names)))
    expected = rate_game(Game.SUBSET_RATE, few)

    assert found.credits.conversions[[5, 66, 69]] == pytest.approx(expected.credits.conversions)
    assert found.credits.values[[5, 66, 69]] == pytest.approx(expected.credits.values)
    assert np.count_nonzero(found.credits.conversions) == 3


@given(st.integers(0, 6), st.integers(0, 2**32 - 1))
def test_weighted_sums_of_games_need_the_whole_game_alone(players: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    game, weights = generator.normal(size=(2, 1 << players))
    game[0] = 0.0
    sets = np.arange(1 << players)

    found = by_player(equal_parts(game) * over_supersets(weights))

    assert found == pytest.approx(weights @ values_within(game, sets), abs=1e-9)
    inside = sets[:, None] & sets == sets[:, None]
    assert over_supersets(weights) == pytest.approx(inside @ weights, abs=1e-9)


@given(st.lists(st.floats(-5, 5), min_size=8, max_size=8))
def test_moebius_takes_zeta_back(function: list[float]) -> None:
    array = np.array(function)

    assert moebius(zeta(array)) == pytest.approx(array)
    assert zeta(array)[5] == pytest.approx(array[[0, 1, 4, 5]].sum())
    assert values_within(array - array[0], np.array([7]))[0].sum() == pytest.approx(
        array[7] - array[0]
    )


def test_the_learned_game_of_a_saturating_model_by_hand() -> None:
    # v = 1 - (1 - .5)^A (1 - .2)^B: alone .5 and .2, together .6: A (.5 + .4)/2, B (.2 + .1)/2.
    def predict(members: np.ndarray) -> np.ndarray:
        return np.asarray(1 - np.where(members, [0.5, 0.8], 1.0).prod(axis=1))

    found = learned_values(predict, 2, Sampling())

    assert found.exact
    assert found.values == pytest.approx([0.45, 0.15])
    assert found.shares == pytest.approx([0.75, 0.25])


def test_sampled_values_agree_with_the_closed_form_within_their_error() -> None:
    channels = 30
    weights = np.linspace(-0.02, 0.1, channels)

    def predict(members: np.ndarray) -> np.ndarray:
        total: np.ndarray = members @ weights
        return np.asarray(total + total**2)

    # Of (sum w)^2 a pair's product is halved between its two: phi = w (1 + sum of all w).
    expected = weights * (1 + weights.sum())
    found = learned_values(predict, channels, Sampling(pairs=50, seed=3))
    again = learned_values(predict, channels, Sampling(pairs=50, seed=3))

    assert not found.exact
    # An order and its reverse cancel what is quadratic, so antithetic pairs are exact here.
    assert found.values == pytest.approx(expected)
    assert found.std_err.max() < 1e-6
    assert found.values.tolist() == again.values.tolist()


def test_the_standard_error_of_sampling_covers_the_truth() -> None:
    channels = 14
    risks = np.linspace(0.05, 0.5, channels)

    def predict(members: np.ndarray) -> np.ndarray:
        return np.asarray(1 - np.where(members, 1 - risks, 1.0).prod(axis=1))

    sets = np.arange(1 << channels)
    members = (sets[:, None] >> np.arange(channels) & 1).astype(bool)
    truth = values_within(predict(members), sets[-1:])[0]
    inside = [
        np.abs(found.values - truth) <= 1.96 * found.std_err
        for found in (learned_values(predict, channels, Sampling(60, seed)) for seed in range(40))
    ]

    assert 0.90 <= np.mean(inside) <= 0.99


def test_a_model_without_effect_has_no_shares() -> None:
    found = learned_values(lambda members: np.full(len(members), 0.3), 3, Sampling())

    assert found.values.tolist() == [0, 0, 0]
    assert found.shares is None


def test_limits_are_named() -> None:
    with pytest.raises(DomainError, match="pairs"):
        Sampling(pairs=1)
    with pytest.raises(DomainError, match="seed"):
        Sampling(seed=-1)
    with pytest.raises(DomainError, match="positions"):
        ordered(journeys_of_paths([("A", 1.0)]), 0)
    with pytest.raises(DomainError, match="exact_set_rate or subset_rate"):
        rate_game(Game.SIMPLIFIED, histogram_of([("A", 1.0)]))
    with pytest.raises(DomainError, match="channels"):
        histogram_of([("A", 1.0)]) + histogram_of([("A", 1.0)], "AB")


def test_a_game_of_subsets_counts_every_subset_once() -> None:
    paths: Paths = [("A", 1.0), ("B>C", 1.0), ("C", None), ("A>C", None)]
    found = rate_game(Game.SUBSET_RATE, histogram_of(paths, "ABC"))
    worth = rate_of(Game.SUBSET_RATE, paths)
    groups = [frozenset(group) for size in (1, 2, 3) for group in combinations("ABC", size)]

    assert found.everyone == worth(frozenset("ABC")) == 0.5
    assert len({worth(group) for group in groups}) > 2
