"""The Poisson bootstrap: its weights, that shards agree, and that intervals cover."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from scipy import stats as distributions

from services.attribution.domain.bootstrap.intervals import figures, intervals
from services.attribution.domain.bootstrap.resample import resample
from services.attribution.domain.bootstrap.tallies import tally_credits, tally_sets, tally_steps
from services.attribution.domain.bootstrap.weights import (
    Resampling,
    unit_weights,
)
from services.attribution.domain.channel_sets import count_sets
from services.attribution.domain.credits import credits_by_channel
from services.attribution.domain.journeys import JourneyRules, build_journeys
from services.attribution.domain.markov import TransitionCounts, count_transitions, removal_effects
from services.attribution.domain.shapley.additive import simplified, touch_weights
from services.attribution.domain.unit_keys import keys_of_names, keys_of_numbers
from shared.errors import DomainError
from tests.unit.attribution.journey_cases import (
    PATHS,
    Paths,
    conversions_of,
    journeys_of_paths,
    touches_of,
)

CHANNELS = tuple("ABCD")
FEW = Resampling(replicates=10, seed=5)


def test_weights_are_poisson() -> None:
    keys = keys_of_numbers(np.arange(20_000))
    weights = unit_weights(keys, 1, 0, 40)
    counts = np.bincount(weights.ravel(), minlength=9)
    expected = distributions.poisson(1).pmf(np.arange(9)) * weights.size

    assert weights.mean() == pytest.approx(1, abs=0.005)
    assert weights.var() == pytest.approx(1, abs=0.01)
    seen, wanted = counts[:7], expected[:7]
    fit = distributions.chisquare(seen, wanted * seen.sum() / wanted.sum())
    assert fit.pvalue > 1e-4


def test_replicates_and_units_are_unrelated() -> None:
    weights = unit_weights(keys_of_numbers(np.arange(50_000)), 7, 0, 12).astype(float)
    between_replicates = np.corrcoef(weights.T) - np.eye(12)
    between_units = np.corrcoef(weights[:-1].ravel(), weights[1:].ravel())[0, 1]

    assert np.abs(between_replicates).max() < 4.5 / np.sqrt(50_000)
    assert abs(between_units) < 4.5 / np.sqrt(600_000)


def test_the_weights_of_a_unit_depend_on_nothing_else() -> None:
    keys = keys_of_names(["ann", "bob", "cleo"])
    all_at_once = unit_weights(keys, 3, 0, 20)

    assert unit_weights(keys[[2, 0]], 3, 0, 20).tolist() == all_at_once[[2, 0]].tolist()
    assert unit_weights(keys, 3, 8, 14).tolist() == all_at_once[:, 8:14].tolist()
    assert unit_weights(keys, 4, 0, 20).tolist() != all_at_once.tolist()
    # Once published, weights may not change: figures of one watermark are the same for ever.
    assert all_at_once[:, :8].tolist() == [
        [1, 0, 3, 0, 0, 1, 1, 0],
        [0, 3, 3, 3, 1, 2, 2, 1],
        [2, 1, 1, 2, 1, 2, 1, 1],
    ]


def expanded(paths: Paths, weights: list[int]) -> Paths:
    return [row for row, weight in zip(paths, weights, strict=True) for _ in range(weight)]


@settings(max_examples=30)
@given(PATHS)
def test_a_replicate_is_the_statistic_of_units_repeated_by_their_weights(paths: Paths) -> None:
    journeys = journeys_of_paths(paths, CHANNELS)
    keys = keys_of_numbers(journeys.units)
    order = np.argsort(journeys.units)
    weights = unit_weights(keys, FEW.seed, 0, FEW.replicates)[order]
    sets, steps = tally_sets(journeys), tally_steps(journeys)
    credits_ = tally_credits(touch_weights(journeys), journeys)
    stacked = sparse.csr_array(sparse.hstack([sets.rows, steps.rows, credits_.rows]))
    sums = resample(stacked, keys, FEW)
    borders = np.cumsum([sets.rows.shape[1], steps.rows.shape[1]])

    for replicate in range(3):
        of_sets, of_steps, of_credits = np.split(sums[replicate], borders)
        drawn = expanded(paths, weights[:, replicate].tolist())
        if not drawn:
            assert not sums[replicate].any()
            continue
        repeated = journeys_of_paths(drawn, CHANNELS)
        expected = simplified(count_sets(repeated))
        assert simplified(sets.read(of_sets)).conversions == pytest.approx(expected.conversions)
        assert credits_.read(of_credits).values == pytest.approx(expected.values)
        converting, others = count_transitions(repeated)
        found = steps.read(of_steps)
        assert found.steps.tolist() == (converting + others).steps.tolist()
        assert found.null.tolist() == others.null.tolist()
        assert found.start.tolist() == (converting + others).start.tolist()
        assert found.converted.tolist() == converting.converted.tolist()
        assert found.value == pytest.approx(converting.value)


@given(PATHS, st.integers(0, 30))
def test_replicates_of_shards_add_up(paths: Paths, border: int) -> None:
    journeys = journeys_of_paths(paths, CHANNELS)
    keys = keys_of_numbers(journeys.units)
    rows = tally_steps(journeys).rows
    first = journeys.units < border

    whole = resample(rows, keys, FEW)
    left = resample(rows[np.flatnonzero(first)], keys[first], FEW)
    right = resample(rows[np.flatnonzero(~first)], keys[~first], FEW)

    assert (left + right).tolist() == whole.tolist()


def test_journeys_without_conversion_may_be_left_out_of_the_steps() -> None:
    journeys = journeys_of_paths([("A>B", 2.0), ("B", None)], ("A", "B"))
    tally = tally_steps(journeys, ignore_non_converting=True)

    found = tally.read(np.asarray(tally.rows.sum(axis=0), dtype=np.float64))

    assert found.null.tolist() == [0, 0]
    assert found.start.tolist() == [1, 0]


def test_intervals_cover_the_truth_where_journeys_of_a_unit_go_together() -> None:
    """Of 80 samples of units, 95% intervals of a Markov effect and a credit hold the truth.

    A unit has one to four journeys that all convert or all do not, so a bootstrap by journey
    would be too narrow.
    """
    paths = np.array(["A", "B", "A>B", "B>A"])

    def sample(generator: np.random.Generator, units: int) -> tuple[np.ndarray, ...]:
        kind = generator.integers(4, size=units)
        converts = generator.random(units) < np.array([0.2, 0.4, 0.6, 0.3])[kind]
        return kind, converts, generator.integers(1, 5, size=units)

    def figure_of(kind: np.ndarray, converts: np.ndarray, repeats: np.ndarray) -> Paths:
        return [
            (str(paths[k]), 1.0 if c else None)
            for k, c, r in zip(kind, converts, repeats, strict=True)
            for _ in range(r)
        ]

    truth = removal_effects(sum_of(figure_of(*sample(np.random.default_rng(0), 20_000)))).effects
    plan, inside, wide = Resampling(replicates=100, seed=11), [], []
    for seed in range(1, 81):
        kind, converts, repeats = sample(np.random.default_rng(seed), 150)
        journeys = journeys_of_paths(figure_of(kind, converts, repeats), ("A", "B"))
        owners = np.repeat(np.arange(150), repeats)[journeys.units]
        tally = tally_steps(journeys)
        sums = resample(tally.rows, keys_of_numbers(owners), plan)
        found = intervals(figures(tally, sums, effects_of), plan)
        assert found is not None
        inside.append((found.ci_low <= truth) & (truth <= found.ci_high))
        alone = resample(tally.rows, keys_of_numbers(journeys.units), plan)
        narrow = intervals(figures(tally, alone, effects_of), plan)
        assert narrow is not None
        wide.append(found.std_err / narrow.std_err)

    assert 0.88 <= np.mean(inside) <= 0.985
    assert np.mean(wide) > 1.3


def effects_of(counts: TransitionCounts) -> np.ndarray:
    return removal_effects(counts).effects


def sum_of(paths: Paths) -> TransitionCounts:
    converting, others = count_transitions(journeys_of_paths(paths, ("A", "B")))
    return converting + others


def test_the_standard_error_of_a_count_is_that_of_its_closed_form() -> None:
    # Units with x_u credits: the Poisson bootstrap's variance of the sum is the sum of x_u^2.
    touches = touches_of([(unit, 0, "A") for unit in range(400)])
    conversions = conversions_of(
        [(unit, 1 + repeat, 2.0) for unit in range(400) for repeat in range(unit % 3)]
    )
    journeys = build_journeys(touches, conversions, JourneyRules())
    tally = tally_credits(np.ones(journeys.converting), journeys)
    plan = Resampling(replicates=2_000, seed=2)
    sums = resample(tally.rows, keys_of_numbers(journeys.units), plan)
    found = intervals(figures(tally, sums, lambda credits_: credits_.conversions), plan)

    assert found is not None
    expected = np.sqrt(133 * 1 + 133 * 4)
    assert found.std_err == pytest.approx([expected], rel=0.05)
    assert credits_by_channel(np.ones(journeys.converting), journeys).conversions == [399]
    assert found.ci_low[0] == pytest.approx(399 - 1.96 * expected, rel=0.03)


def test_figures_that_are_mostly_undefined_have_no_interval() -> None:
    defined, plan = np.array([1.0]), Resampling(replicates=10)

    assert intervals([defined] * 8 + [None] * 2, plan) is None
    found = intervals([defined] * 9 + [None], plan)
    assert found is not None
    assert (found.defined, found.replicates) == (9, 10)


def test_limits_are_named() -> None:
    with pytest.raises(DomainError, match="replicates"):
        Resampling(replicates=1)
    with pytest.raises(DomainError, match="level"):
        Resampling(level=1.0)
    with pytest.raises(DomainError, match="seed"):
        Resampling(seed=-1)
    journeys = journeys_of_paths([("A", 1.0)])
    with pytest.raises(DomainError, match="keys"):
        resample(tally_sets(journeys).rows, keys_of_numbers(np.arange(2)), FEW)
