"""The additive hazard: its likelihood, its credits, and a simulation with known parameters."""

import numpy as np
import pytest
from hypothesis import given, settings

from services.attribution.domain.bootstrap.models import DrawnUnits, resample_models
from services.attribution.domain.bootstrap.weights import Resampling
from services.attribution.domain.credits import credits_by_channel
from services.attribution.domain.data_driven import data_weights
from services.attribution.domain.journeys import DAY_US, JourneyRules, Journeys, build_journeys
from services.attribution.domain.learned.hazard import AdditiveHazard, Stopping, fit_hazard
from services.attribution.domain.models import AdditiveHazard as Model
from services.attribution.domain.unit_keys import keys_of_numbers
from shared.errors import DomainError
from tests.unit.attribution.journey_cases import (
    PATHS,
    Paths,
    conversions_of,
    journeys_of_paths,
    touches_of,
)

STRENGTH, FADING = {"A": 0.5, "B": 0.15}, {"A": 1.0, "B": 0.2}
OBSERVED_DAYS = 60


def drawn(units: int, seed: int) -> Journeys:
    """Touches as they come; each converts by itself with chance 1 - exp(-beta), at its own delay.

    That is the additive hazard: the first of the conversions that touches would bring about.
    """
    generator = np.random.default_rng(seed)
    touches, conversions = [], []
    for unit in range(units):
        times = np.sort(generator.random(generator.poisson(3)) * 30)
        names = generator.choice(["A", "B"], len(times))
        due = np.inf
        for time, name in zip(times, names, strict=True):
            arrivals = generator.poisson(STRENGTH[name])
            delays = generator.exponential(1 / FADING[name], arrivals)
            due = min([due, *(time + delays)])
        touches += [
            (unit, int(time * DAY_US), str(name))
            for time, name in zip(times, names, strict=True)
            if time <= due
        ]
        if due < OBSERVED_DAYS:
            conversions.append((unit, int(due * DAY_US), 1.0))
    rules = JourneyRules(lookback_us=90 * DAY_US)
    return build_journeys(touches_of(touches, ("A", "B")), conversions_of(conversions), rules)


def test_known_parameters_are_recovered() -> None:
    journeys = drawn(8_000, 7)
    found = fit_hazard(journeys, OBSERVED_DAYS * DAY_US, Stopping())

    assert found.converged
    assert found.strength == pytest.approx([0.5, 0.15], rel=0.08)
    assert found.fading == pytest.approx([1.0, 0.2], rel=0.15)


def test_a_prediction_by_hand() -> None:
    # Two touches of A three days apart, one day after the last: 1 - exp(-.5 (...) - .5 (...)).
    journeys = build_journeys(
        touches_of([(1, 0, "A"), (1, 3 * DAY_US, "A")]), conversions_of([]), JourneyRules()
    )
    model = AdditiveHazard(np.array([0.5]), np.array([0.2]), 0.0, 1, converged=True)
    total = 0.5 * (1 - np.exp(-0.8)) + 0.5 * (1 - np.exp(-0.2))

    assert model.predict(journeys, DAY_US) == pytest.approx([1 - np.exp(-total)])


def test_more_steps_do_not_lower_the_likelihood() -> None:
    journeys = drawn(1_000, 8)
    values = [
        fit_hazard(journeys, OBSERVED_DAYS * DAY_US, Stopping(steps=steps)).log_likelihood
        for steps in (1, 2, 5, 20, 100)
    ]

    assert values == sorted(values)


def test_the_likelihood_by_hand() -> None:
    # One touch of A a day before the conversion, and one of a unit seen for two days more.
    touches = touches_of([(1, 0, "A"), (2, 0, "A")])
    journeys = build_journeys(touches, conversions_of([(1, DAY_US, 1.0)]), JourneyRules())
    found = fit_hazard(journeys, 2 * DAY_US, Stopping(steps=1))

    # Starts at beta 1/2 and omega 1: log(.5 e^-1) - .5 (1 - e^-1) - .5 (1 - e^-2).
    expected = np.log(0.5) - 1 - 0.5 * (1 - np.exp(-1)) - 0.5 * (1 - np.exp(-2))
    assert found.log_likelihood == pytest.approx(expected)
    assert not found.converged


def test_days_are_whole_time_and_not_their_seconds() -> None:
    touches = touches_of([(1, 0, "A"), (1, 20 * DAY_US, "A")])
    conversions = conversions_of([(1, 20 * DAY_US + 3_600_000_000, 1.0)])
    journeys = build_journeys(touches, conversions, JourneyRules())
    weights = fit_hazard(journeys, 30 * DAY_US, Stopping(steps=2)).touch_weights(journeys)

    assert weights[0] < 0.3 < 0.7 < weights[1]


@settings(max_examples=30, deadline=None)
@given(PATHS)
def test_the_parts_of_a_journey_sum_to_one(paths: Paths) -> None:
    journeys = journeys_of_paths(paths, tuple("ABCDE"))
    found = fit_hazard(journeys, 60 * DAY_US, Stopping(steps=30))
    weights = found.touch_weights(journeys)

    assert (weights >= 0).all()
    assert np.isfinite(found.log_likelihood)
    if journeys.converting:
        assert np.add.reduceat(weights, journeys.converting_offsets[:-1]) == pytest.approx(
            np.ones(journeys.converting)
        )
    assert credits_by_channel(weights, journeys).conversions.sum() == pytest.approx(
        journeys.converting
    )
    assert found.strength[4] == 0


def test_a_channel_without_conversion_has_no_strength() -> None:
    found = fit_hazard(
        journeys_of_paths([("A", 1.0), ("B", None)], ("A", "B")), 9 * DAY_US, Stopping()
    )

    assert found.strength[1] == 0
    nobody = fit_hazard(journeys_of_paths([("A", None)]), 9 * DAY_US, Stopping())
    assert (nobody.strength.tolist(), nobody.converged) == ([0.0], True)


def test_limits_are_named() -> None:
    with pytest.raises(DomainError, match="tolerance"):
        Stopping(tolerance=0)
    with pytest.raises(DomainError, match="steps"):
        Stopping(steps=0)


def test_a_journey_that_counts_twice_is_two_journeys() -> None:
    journeys = drawn(300, 11)
    times = np.random.default_rng(1).poisson(1.0, len(journeys)).astype(np.float64)
    picked = np.repeat(np.arange(len(journeys)), times.astype(np.int64))
    touches, conversions = [], []
    for unit, row in enumerate(picked.tolist()):
        begin, end = journeys.offsets[row], journeys.offsets[row + 1]
        for place in range(begin, end):
            name = journeys.channels[journeys.codes[place]]
            touches.append((unit, int(journeys.times[place]), name))
        if row < journeys.converting:
            conversions.append((unit, int(journeys.conversion_times[row]), 1.0))
    rules = JourneyRules(lookback_us=90 * DAY_US)
    repeated = build_journeys(touches_of(touches, ("A", "B")), conversions_of(conversions), rules)

    until = OBSERVED_DAYS * DAY_US
    weighed = fit_hazard(journeys, until, Stopping(), times)
    found = fit_hazard(repeated, until, Stopping())

    assert weighed.strength == pytest.approx(found.strength)
    assert weighed.fading == pytest.approx(found.fading)
    assert weighed.log_likelihood == pytest.approx(found.log_likelihood)


def test_intervals_of_its_credit_move_as_the_credit_does_from_sample_to_sample() -> None:
    samples = [drawn(300, seed) for seed in range(60)]
    credits_ = [
        credits_by_channel(data_weights(Model(), each), each).conversions for each in samples
    ]
    units = DrawnUnits(Resampling(100), keys_of_numbers(samples[0].units), 60.0)
    (resampled,) = resample_models((Model(),), samples[0], None, units, np.zeros(2, np.bool_))

    assert resampled.why_none == ""
    errors = resampled.tables[0].conversions.std_err[:2]
    assert errors == pytest.approx(np.std(credits_, axis=0, ddof=1), rel=0.35)
