"""Shao-Li, bagged logistic regression, fractribution: by hand, by force, and on known truths."""

import numpy as np
import pytest
from hypothesis import given, settings
from statsmodels.api import GLM, families

from services.attribution.domain.channel_sets import SetHistogram, count_sets
from services.attribution.domain.credits import credits_by_channel
from services.attribution.domain.fractribution import fractribution_weights
from services.attribution.domain.learned.logistic import Bagging, fit_bagged, logistic_credits
from services.attribution.domain.learned.probabilistic import pair_rates, probabilistic_credits
from services.attribution.domain.learned.ridge import fit_logistic
from services.attribution.domain.paths.transforms import PathTransform, transform_paths
from shared.errors import DomainError
from tests.unit.attribution.journey_cases import PATHS, Paths, journeys_of_paths

CHANNELS = tuple("ABCD")


def histogram_of(paths: Paths, channels: tuple[str, ...] = CHANNELS) -> SetHistogram:
    return count_sets(journeys_of_paths(paths, channels))


def shao_li_by_force(paths: Paths) -> dict[str, float]:
    def rate(*held: str) -> float:
        seen = [value is not None for path, value in paths if set(held) <= set(path.split(">"))]
        return sum(seen) / len(seen)

    totals = dict.fromkeys(CHANNELS, 0.0)
    for path, value in paths:
        own = sorted(set(path.split(">")))
        if value is None:
            continue
        for i in own:
            pairs = sum(rate(i, j) - rate(i) - rate(j) for j in own if j != i)
            totals[i] += rate(i) + (pairs / (2 * (len(own) - 1)) if len(own) > 1 else 0)
    return totals


@given(PATHS)
def test_shao_li_is_its_equation(paths: Paths) -> None:
    histogram = histogram_of(paths)
    found = probabilistic_credits(pair_rates(histogram), histogram).shares
    expected = shao_li_by_force(paths)
    total = sum(expected.values())

    if found is None:
        assert total == pytest.approx(0, abs=1e-12)
    else:
        assert found == pytest.approx([credit / total for credit in expected.values()])


def test_shao_li_by_hand() -> None:
    # p(A) = 2/3, p(B) = 1/2, p(AB) = 1. Of A>B: A 2/3 + (1 - 7/6)/2 = 7/12, B 1/2 - 1/12 = 5/12.
    histogram = histogram_of([("A", 1.0), ("A", None), ("A>B", 5.0), ("B", None)], ("A", "B"))
    rates = pair_rates(histogram)

    assert rates.of_channels == pytest.approx([2 / 3, 1 / 2])
    found = probabilistic_credits(rates, histogram)
    assert found.shares == pytest.approx([(2 / 3 + 7 / 12) / (5 / 3), (5 / 12) / (5 / 3)])
    members = np.array([[True, True], [True, False], [False, False]])
    assert rates.predict(members) == pytest.approx([1, 2 / 3, 0])


def test_the_ridge_fit_without_ridge_is_that_of_statsmodels() -> None:
    generator = np.random.default_rng(4)
    features = (generator.random((60, 4)) < 0.5).astype(float)
    trials = generator.integers(5, 50, 60)
    successes = generator.binomial(trials, 1 / (1 + np.exp(1 - features @ [0.5, -0.4, 1.0, 0.0])))
    expected = GLM(
        np.column_stack([successes, trials - successes]),
        np.column_stack([np.ones(60), features]),
        family=families.Binomial(),
    ).fit()

    found = fit_logistic(features, successes, trials, ridge=1e-9)

    assert found.converged
    assert found.coefficients == pytest.approx(expected.params, abs=1e-5)


def test_a_separated_fit_is_finite() -> None:
    found = fit_logistic(np.array([[0.0], [1.0]]), np.array([0, 9]), np.array([9, 9]), ridge=1.0)

    assert found.converged
    assert np.isfinite(found.coefficients).all()
    assert found.coefficients[1] > 1
    assert fit_logistic(np.zeros((1, 1)), np.array([0]), np.array([5]), 1.0).coefficients[0] < -5


def drawn(journeys: int, seed: int) -> Paths:
    """A triples the odds of conversion, B does nothing, C halves them."""
    generator = np.random.default_rng(seed)
    effects = {"A": np.log(3), "B": 0.0, "C": -np.log(2)}
    paths: Paths = []
    for row in generator.random((journeys, 4)):
        own = [name for name, draw in zip("ABC", row, strict=False) if draw < 0.5] or ["B"]
        chance = 1 / (1 + np.exp(1.5 - sum(effects[name] for name in own)))
        paths.append((">".join(own), 2.0 if row[3] < chance else None))
    return paths


def test_bagging_finds_what_raises_the_odds() -> None:
    histogram = histogram_of(drawn(6_000, 1))
    model = fit_bagged(histogram, Bagging(rounds=60, column_part=1.0, seed=2))

    assert model.unconverged == 0
    assert model.coefficients[:3] == pytest.approx([np.log(3), 0, -np.log(2)], abs=0.2)
    found = logistic_credits(model, histogram)
    assert found.conversions.sum() == pytest.approx(histogram.conversions.sum())
    assert found.values.sum() == pytest.approx(histogram.values.sum())
    # What only B or C preceded is theirs.
    assert found.conversions[0] > 3 * found.conversions[1]
    predicted = model.predict(histogram.members)
    observed = histogram.conversions / histogram.journeys
    assert predicted == pytest.approx(observed, abs=0.08)


def test_bagging_is_repeatable_and_leaves_channels_out() -> None:
    histogram = histogram_of(drawn(300, 3))
    one, two = (fit_bagged(histogram, Bagging(rounds=20, seed=9)) for _ in range(2))

    assert one.rounds.tolist() == two.rounds.tolist()
    assert one.taken.sum(axis=1).tolist() == [2] * 20
    assert fit_bagged(histogram, Bagging(rounds=20, seed=8)).rounds.tolist() != one.rounds.tolist()


def test_more_rounds_than_there_is_room_for_are_refused() -> None:
    channels = tuple(f"C{number}" for number in range(500))
    pairs = [(f"C{number}>C{(7 * number + 1) % 500}", None) for number in range(500)]
    histogram = histogram_of([("C0", 1.0), *pairs], channels)

    with pytest.raises(DomainError, match=r"rounds is 800; allowed: at most 641 over 499 sets"):
        fit_bagged(histogram, Bagging(rounds=800))


@settings(max_examples=20, deadline=None)
@given(PATHS)
def test_bagging_hands_out_each_conversion_once(paths: Paths) -> None:
    histogram = histogram_of(paths)
    found = logistic_credits(fit_bagged(histogram, Bagging(rounds=3)), histogram)

    assert found.conversions.sum() == pytest.approx(histogram.conversions.sum())
    assert (found.conversions >= 0).all()


@pytest.mark.parametrize(
    ("name", "value"),
    [("row_part", 0.0), ("column_part", 1.5), ("rounds", 0), ("ridge", 0.0), ("seed", -1)],
)
def test_bagging_names_what_is_out_of_range(name: str, value: float) -> None:
    with pytest.raises(DomainError, match=name):
        Bagging(**{name: value})  # type: ignore[arg-type]


def fractribution_by_force(paths: Paths) -> dict[str, float]:
    def rate(path: list[str]) -> float:
        seen = [value is not None for other, value in paths if other.split(">") == path]
        return sum(seen) / len(seen) if seen else 0.0

    totals = dict.fromkeys(CHANNELS, 0.0)
    for text, value in paths:
        if value is None:
            continue
        path = text.split(">")
        gains = (
            [0.0] * (len(path) - 1) + [1.0]
            if len(path) == 1
            else [max(rate(path) - rate(path[:i] + path[i + 1 :]), 0.0) for i in range(len(path))]
        )
        if sum(gains) == 0:
            gains[-1] = 1.0
        for channel, gain in zip(path, gains, strict=True):
            totals[channel] += value * gain / sum(gains)
    return totals


def test_fractribution_by_hand() -> None:
    # A>B converts always, B alone half of the time, A was never seen alone: A 1/2 and B 1.
    paths: Paths = [("A>B", 6.0), ("A>B", 3.0), ("B", 1.0), ("B", None)]
    weights = fractribution_weights(journeys_of_paths(paths, ("A", "B")))

    assert weights == pytest.approx([1 / 3, 2 / 3, 1 / 3, 2 / 3, 1])
    # The value of both journeys on A>B counts.
    assert credits_by_channel(weights, journeys_of_paths(paths, ("A", "B"))).values.sum() == 10


@given(PATHS)
def test_fractribution_is_its_definition(paths: Paths) -> None:
    journeys = journeys_of_paths(paths, CHANNELS)
    found = credits_by_channel(fractribution_weights(journeys), journeys)

    assert found.values == pytest.approx([*fractribution_by_force(paths).values()])
    assert found.conversions.sum() == pytest.approx(journeys.converting)


def test_fractribution_of_transformed_paths() -> None:
    journeys = transform_paths(
        journeys_of_paths([("A>A>B", 1.0), ("A>B", None), ("B", None)]), PathTransform.EXPOSURE
    )

    assert fractribution_weights(journeys) == pytest.approx([0.5, 0.5])
