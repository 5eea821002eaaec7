"""Gamma posteriors of event rates: quadrature against the closed forms of their ratio."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats
from touchstone_statistics.gamma import GammaPosterior, lift_of_rates, rate_beats
from touchstone_statistics.versus import Pairs, credible_difference, credible_lift

SEEN = st.tuples(st.integers(0, 10**6), st.floats(0.1, 1e6))


def test_the_posterior_is_the_conjugate_one() -> None:
    posterior = GammaPosterior.of(12, 40.0, prior=(2.0, 8.0))
    reference = stats.gamma(14, scale=1 / 48)
    rate = np.array([0.1, 0.3, 0.9])
    assert posterior.mean == pytest.approx(reference.mean())
    assert posterior.std_dev == pytest.approx(reference.std())
    assert posterior.below(rate) == pytest.approx(reference.cdf(rate), rel=1e-12)
    assert posterior.above(rate) == pytest.approx(reference.sf(rate), rel=1e-12)
    assert posterior.density(rate) == pytest.approx(reference.pdf(rate), rel=1e-12)
    points, weights = posterior.nodes()
    assert (points**3 * weights).sum() == pytest.approx(reference.moment(3), rel=1e-10)


@settings(deadline=None, max_examples=60)
@given(SEEN, SEEN)
def test_quadrature_agrees_with_the_closed_form(
    control: tuple[int, float], treatment: tuple[int, float]
) -> None:
    held, tried = GammaPosterior.of(*control), GammaPosterior.of(*treatment)
    pairs = Pairs.of(held, tried)
    chance = pairs.compare().probability_to_beat
    assert chance == pytest.approx(float(rate_beats(held, tried)), abs=1e-9)
    exact, ours = lift_of_rates(held, tried), credible_lift(pairs)
    assert ours.low == pytest.approx(float(exact.low), rel=1e-7, abs=1e-7)
    assert ours.high == pytest.approx(float(exact.high), rel=1e-7, abs=1e-7)


def test_loss_and_difference_match_adaptive_quadrature() -> None:
    held, tried = GammaPosterior.of(30, 20.0), GammaPosterior.of(45, 25.0)
    a, b = (stats.gamma(float(p.events), scale=1 / float(p.exposure)) for p in (held, tried))
    ours = Pairs.of(held, tried)
    loss, _ = integrate.quad(lambda x: b.cdf(x) * a.sf(x), 0, 10, epsabs=1e-13)
    assert ours.compare().expected_loss == pytest.approx(loss, rel=1e-9)
    ends = credible_difference(ours)
    for end, mass in ((ends.low, 0.025), (ends.high, 0.975)):
        found, _ = integrate.quad(lambda x, d=float(end): a.pdf(x) * b.cdf(x + d), 0, 10)
        assert found == pytest.approx(mass, abs=1e-8)


def test_impossible_counts_are_refused() -> None:
    with pytest.raises(ValueError, match="events is -1"):
        GammaPosterior.of(-1, 3.0)
    with pytest.raises(ValueError, match="exposure is -3"):
        GammaPosterior.of(1, -3.0)
    with pytest.raises(ValueError, match="the prior is"):
        GammaPosterior.of(1, 3.0, prior=(1.0, 0.0))
    with pytest.raises(ValueError, match="alpha is 0"):
        lift_of_rates(GammaPosterior.of(1, 3.0), GammaPosterior.of(1, 3.0), alpha=0.0)
