"""Held-out fit and divergence: splits, scores against force, and models side by side."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from services.attribution.domain.divergence import divergence_table
from services.attribution.domain.held_out.fit import Owners, compare_fits, judge
from services.attribution.domain.held_out.models import Observation, fit_models
from services.attribution.domain.held_out.predictors import (
    additive_hazard,
    bagged_logistic,
    exact_path,
    exact_set,
    markov,
    shao_li,
    subset_rate,
)
from services.attribution.domain.held_out.split import split_by_unit, take
from services.attribution.domain.journeys import DAY_US, Journeys
from services.attribution.domain.learned.hazard import Stopping
from services.attribution.domain.learned.logistic import Bagging
from services.attribution.domain.models import (
    AdditiveHazard,
    BaggedLogistic,
    FirstTouch,
    Fractribution,
    LearnedShapley,
    Markov,
    Model,
    OrderedShapley,
    Participation,
    Probabilistic,
    Shapley,
)
from services.attribution.domain.shapley import Game
from services.attribution.domain.unit_keys import keys_of_names, keys_of_numbers
from shared.errors import DomainError
from tests.unit.attribution.journey_cases import PATHS, Paths, journeys_of_paths


def drawn(journeys: int, seed: int) -> Journeys:
    """A converts often, B seldom; C ends journeys that convert twice as often."""
    generator = np.random.default_rng(seed)
    paths: Paths = []
    for draws in generator.random((journeys, 4)):
        path = ["A" if draws[0] < 0.5 else "B", *(["C"] if draws[1] < 0.4 else [])]
        chance = (0.3 if path[0] == "A" else 0.1) * len(path)
        paths.append((">".join(path), 1.0 if draws[2] < chance else None))
    return journeys_of_paths(paths, ("A", "B", "C"))


@given(PATHS, st.floats(0.1, 0.9))
def test_a_split_keeps_units_whole_and_every_journey_once(paths: Paths, part: float) -> None:
    journeys = journeys_of_paths(paths)
    keys = keys_of_numbers(journeys.units)
    found = split_by_unit(journeys, keys, "salt", part)

    assert not set(found.training.units.tolist()) & set(found.held_out.units.tolist())
    assert len(found.training) + len(found.held_out) == len(journeys)
    assert found.training.converting + found.held_out.converting == journeys.converting
    whole = take(journeys, np.ones(len(journeys), dtype=np.bool_))
    assert whole.codes.tolist() == journeys.codes.tolist()


def test_a_split_depends_on_unit_and_salt_alone() -> None:
    journeys = journeys_of_paths([("A", 1.0)] * 2_000)
    keys = keys_of_names([f"unit {number}" for number in journeys.units.tolist()])
    one, other = (split_by_unit(journeys, keys, salt, 0.25).held_out for salt in ("one", "two"))
    half = take(journeys, journeys.units < 1_000)

    assert 430 < len(one) < 570
    assert 60 < len(set(one.units.tolist()) & set(other.units.tolist())) < 190
    assert split_by_unit(
        half, keys[journeys.units < 1_000], "one", 0.25
    ).held_out.units.tolist() == [unit for unit in one.units.tolist() if unit < 1_000]


@given(
    st.lists(
        st.tuples(st.sampled_from([0.05, 0.2, 0.5, 0.9]), st.booleans()), min_size=2, max_size=40
    )
)
def test_scores_agree_with_their_definitions(rows: list[tuple[float, bool]]) -> None:
    chances = np.array([row[0] for row in rows])
    converted = np.array([row[1] for row in rows])
    found = judge("model", chances, converted, 4)
    wins = [(a > b) + (a == b) / 2 for a in chances[converted] for b in chances[~converted]]

    assert found.auc == (pytest.approx(np.mean(wins)) if wins else None)
    losses = [-np.log(p if c else 1 - p) for p, c in rows]
    assert found.log_loss == pytest.approx(np.mean(losses))
    assert sum(b.journeys for b in found.bins) == len(rows)
    assert sum(b.journeys * b.observed for b in found.bins) == pytest.approx(converted.sum())
    assert sum(b.journeys * b.predicted for b in found.bins) == pytest.approx(chances.sum())


def test_calibration_is_recognised() -> None:
    generator = np.random.default_rng(1)
    chances = generator.random(40_000) * 0.6 + 0.2
    converted = generator.random(40_000) < chances
    sure = 1 / (1 + np.exp(-2 * np.log(chances / (1 - chances))))
    right, too_sure = compare_fits({"right": chances, "too sure": sure}, converted)

    assert right.slope == pytest.approx(1, abs=0.05)
    assert right.intercept == pytest.approx(0, abs=0.03)
    assert too_sure.slope == pytest.approx(0.5, abs=0.03)
    assert right.calibration_error < 0.01 < 0.05 < too_sure.calibration_error
    assert right.auc == too_sure.auc
    assert right.log_loss < too_sure.log_loss
    assert right.log_loss < right.base_log_loss


def test_the_impossible_that_happened_is_counted() -> None:
    found = judge("model", np.array([0.0, 0.0, 1.0]), np.array([True, False, True]))

    assert found.certain == 1
    assert found.log_loss == pytest.approx(-np.log(1e-9) / 3)
    alike = judge("model", np.full(3, 0.5), np.array([True, False, True]))
    assert (alike.slope, alike.auc) == (None, 0.5)


def test_models_stand_side_by_side_on_journeys_they_have_not_seen() -> None:
    journeys = drawn(6_000, 2)
    split = split_by_unit(journeys, keys_of_numbers(journeys.units), "fit", 0.3)
    predictors = {
        "markov_1": markov(1),
        "markov_2": markov(2),
        "shao_li": shao_li,
        "bagged_logistic": bagged_logistic(Bagging(rounds=20, column_part=1.0)),
        "subset_rate": subset_rate,
        "additive_hazard": additive_hazard(40 * DAY_US, 30 * DAY_US, Stopping(steps=20)),
    }
    fits = compare_fits(
        {name: predict(split.training, split.held_out) for name, predict in predictors.items()},
        split.held_out.converted,
    )
    by_name = {fit.model: fit for fit in fits}

    assert [fit.model for fit in fits] == list(predictors)
    for name in ("markov_2", "shao_li", "bagged_logistic"):
        assert by_name[name].log_loss < by_name[name].base_log_loss
        assert by_name[name].slope == pytest.approx(1, abs=0.2)
    # Order 1 does not see what stood before C.
    assert by_name["markov_2"].auc is not None
    assert by_name["markov_1"].auc is not None
    assert by_name["markov_2"].auc > by_name["markov_1"].auc + 0.02
    assert all(fit.auc is not None and fit.auc > 0.6 for fit in fits)


def test_limits_of_the_fit_are_named() -> None:
    journeys = journeys_of_paths([("A", 1.0)])
    with pytest.raises(DomainError, match="held_out"):
        split_by_unit(journeys, keys_of_numbers(journeys.units), "", 1.0)
    with pytest.raises(DomainError, match="keys"):
        split_by_unit(journeys, keys_of_numbers(np.arange(5)), "", 0.5)
    with pytest.raises(DomainError, match="between 0 and 1"):
        judge("m", np.array([1.5]), np.array([True]))
    with pytest.raises(DomainError, match="predictions"):
        judge("m", np.array([0.5]), np.array([True, False]))
    with pytest.raises(DomainError, match="bins"):
        judge("m", np.array([0.5]), np.array([True]), 0)


def test_divergence_by_hand() -> None:
    (found,) = divergence_table(
        {"first": np.array([0.5, 0.3, 0.2]), "last": np.array([0.1, 0.3, 0.6])}, ("A", "B", "C")
    )

    assert (found.left, found.right) == ("first", "last")
    assert found.total_variation == pytest.approx(0.4)
    assert found.rank_correlation == pytest.approx(-1)
    assert [row.channel for row in found.channels] == ["A", "C"]
    assert found.channels[0].difference == pytest.approx(-0.4)


@given(
    st.lists(st.floats(0.01, 1), min_size=4, max_size=4),
    st.lists(st.floats(0.01, 1), min_size=4, max_size=4),
)
def test_divergence_is_symmetric_and_agrees_with_scipy(a: list[float], b: list[float]) -> None:
    one, two = np.array(a) / sum(a), np.array(b) / sum(b)
    (there,) = divergence_table({"one": one, "two": two}, tuple("ABCD"))
    (back,) = divergence_table({"two": two, "one": one}, tuple("ABCD"))

    assert there.total_variation == pytest.approx(back.total_variation)
    assert 0 <= there.total_variation <= 1
    if len(set(one.tolist())) > 1 and len(set(two.tolist())) > 1:
        assert there.rank_correlation == pytest.approx(spearmanr(one, two).statistic)
    else:
        assert there.rank_correlation is None


def test_every_two_models_are_compared() -> None:
    shares = {name: np.array([0.5, 0.5]) for name in ("a", "b", "c", "d")}

    table = divergence_table(shares, ("A", "B"))

    assert len(table) == 6
    assert table[0].channels == ()
    with pytest.raises(DomainError, match="sum to 1"):
        divergence_table({"a": np.array([0.5, 0.4])}, ("A", "B"))


OBSERVED = Observation(until_us=60 * DAY_US, horizon_us=30 * DAY_US)
PREDICTING: tuple[Model, ...] = (
    Markov(),
    Markov(order=2),
    Probabilistic(),
    BaggedLogistic(rounds=5),
    LearnedShapley(BaggedLogistic(rounds=5)),
    Shapley(Game.EXACT_SET_RATE),
    Shapley(Game.SUBSET_RATE),
    Fractribution(),
    AdditiveHazard(),
)
SILENT: tuple[Model, ...] = (
    FirstTouch(),
    Participation(),
    Shapley(),
    OrderedShapley(),
    Markov(ignore_non_converting=True),
)


def test_every_model_is_judged_or_says_why_not() -> None:
    journeys = drawn(2_000, 3)
    split = split_by_unit(journeys, keys_of_numbers(journeys.units), "salt")
    found = fit_models((*PREDICTING, *SILENT), split, OBSERVED)

    assert [fit.model for fit in found] == [*PREDICTING, *SILENT]
    for fit in found[: len(PREDICTING)]:
        assert fit.fit is not None, fit.name
        assert fit.why_none == ""
        assert fit.fit.journeys == len(split.held_out)
        assert fit.fit.auc is not None
        assert fit.fit.auc > 0.6
    for fit in found[len(PREDICTING) :]:
        assert (fit.fit, fit.why_none != "") == (None, True)
    assert [fit.name for fit in found[:2]] == ["markov_1", "markov_2"]


def test_rates_of_exact_sets_and_paths_are_those_of_the_training_journeys() -> None:
    training = journeys_of_paths(
        [("A>B", 1.0), ("A>B", None), ("B>A", None), ("C", 1.0)], tuple("ABCD")
    )
    asked = journeys_of_paths(
        [("B>A", 1.0), ("A>B", None), ("D", None), ("A", None)], tuple("ABCD")
    )

    # Two of four converted: what is new has that rate.
    assert exact_set(training, asked) == pytest.approx([1 / 3, 1 / 3, 0.5, 0.5])
    assert exact_path(training, asked) == pytest.approx([0.0, 0.5, 0.5, 0.5])


def test_no_bin_holds_fewer_journeys_than_are_told_of() -> None:
    journeys = drawn(900, 5)
    split = split_by_unit(journeys, keys_of_numbers(journeys.units), "salt")
    held = len(split.held_out)
    (every,) = fit_models((Markov(),), split, OBSERVED)
    (few,) = fit_models((Markov(),), split, OBSERVED, min_units=held // 2)
    (none,) = fit_models((Markov(),), split, OBSERVED, min_units=held + 1)

    assert every.fit is not None
    assert few.fit is not None
    assert len(few.fit.bins) < len(every.fit.bins)
    for fit in (every.fit, few.fit):
        assert sum(each.journeys for each in fit.bins) == held
        mean = sum(each.journeys * each.observed for each in fit.bins) / held
        assert mean == pytest.approx(fit.conversions / held)
    assert min(each.journeys for each in few.fit.bins) >= held // 2
    assert (none.fit, "held-out units" in none.why_none) == (None, True)


@given(
    st.lists(
        st.tuples(st.sampled_from([0.05, 0.2, 0.5, 0.9]), st.integers(0, 4)),
        min_size=1,
        max_size=30,
    ),
    st.integers(1, 6),
)
def test_no_bin_is_of_fewer_units_however_many_journeys_they_made(
    rows: list[tuple[float, int]], least: int
) -> None:
    chances, units = (np.array(column) for column in zip(*rows, strict=True))
    converted = units % 2 == 0
    found = judge("model", chances, converted, 4, Owners(units, least))
    enough = len(set(units.tolist())) >= least

    assert sum(each.journeys for each in found.bins) == len(rows) * enough
    assert found.calibration_error == judge("model", chances, converted, 4).calibration_error
    # Bins follow one another in the order of predictions, so their sizes say who is in each.
    behind = units[np.argsort(chances, kind="stable")]
    for each in found.bins:
        own, behind = behind[: each.journeys], behind[each.journeys :]
        assert len(set(own.tolist())) >= least
        assert each.observed == pytest.approx((own % 2 == 0).mean())


def test_without_journeys_to_fit_to_nothing_is_judged() -> None:
    journeys = journeys_of_paths([("A", 1.0)])
    split = split_by_unit(journeys, keys_of_numbers(journeys.units), "salt", 0.999999)
    (found,) = fit_models((Markov(),), split, OBSERVED)

    assert (found.fit, "no journeys" in found.why_none) == (None, True)
