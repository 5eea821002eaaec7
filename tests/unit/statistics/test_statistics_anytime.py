"""Anytime-valid inference against published values, quadrature, simulation and its promises."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats
from touchstone_statistics.adjust import adjust
from touchstone_statistics.anytime import (
    Anytime,
    AnytimeT,
    half_normal_critical,
    half_normal_log_e,
    half_t_critical,
    half_t_log_e,
    normal_critical,
    normal_log_e,
    t_critical,
    t_log_e,
)
from touchstone_statistics.contrast import Contrast
from touchstone_statistics.estimand import Estimate, Mean, estimate
from touchstone_statistics.gaps import Gap
from touchstone_statistics.interval import Shape, Side
from touchstone_statistics.looks import before, running
from touchstone_statistics.moments import Moments

Inference = Anytime | AnytimeT


def scored(z: object, units: object = 1e6, control: float = 10.0) -> Contrast:
    """A contrast whose difference is `z` standard errors of one, with `units` in each arm."""
    z, size = np.broadcast_arrays(np.asarray(z, dtype=float), np.asarray(units, dtype=float))
    none, half = np.zeros(z.shape, dtype=np.uint8), np.full(z.shape, 0.5)
    flat = Estimate(np.full(z.shape, control), half, size, none, none)
    return Contrast(flat, Estimate(control + z, half, size, none, none))


@pytest.mark.parametrize(("alpha", "critical"), [(0.05, 3.0352), (0.01, 3.5716)])
def test_the_published_critical_value_at_the_tuned_size(alpha: float, critical: float) -> None:
    reading = Anytime(10_000, alpha).read(scored(0.0, 5000))
    assert reading.critical == pytest.approx(critical, abs=5e-5)
    assert reading.difference.high == pytest.approx(critical, abs=5e-5)


def test_the_sequence_is_tightest_where_it_was_tuned() -> None:
    per_arm = np.array([500.0, 5000.0, 50_000.0])
    widths = [Anytime(tuned).read(scored(0.0, per_arm)).critical for tuned in 2 * per_arm]
    stacked = np.array(widths)
    assert np.all(np.argmin(stacked, axis=0) == [0, 1, 2])
    assert stacked[0, 1] / stacked[1, 1] == pytest.approx(1.07, abs=0.005)
    assert stacked[2, 1] / stacked[1, 1] == pytest.approx(1.27, abs=0.005)


def test_it_is_the_mixture_sequential_probability_ratio_test() -> None:
    # Johari et al. (2017), equation 7, with tau^2 = rho^2 V: V the variance of a pair.
    units, pair_variance, difference = 700.0, 3.0, 0.2
    gain = np.asarray(1.7)
    tau2 = gain * pair_variance / units
    published = np.sqrt(pair_variance / (pair_variance + units * tau2)) * np.exp(
        units**2 * tau2 * difference**2 / (2 * pair_variance * (pair_variance + units * tau2))
    )
    z = np.asarray(difference / np.sqrt(pair_variance / units))
    assert np.exp(normal_log_e(z, gain)) == pytest.approx(published, rel=1e-12)


def test_it_is_the_sequence_of_howard_with_another_tuning() -> None:
    # Howard et al. (2021), equation 14, as Eppo prints it:
    # B = sqrt((N + r) / N ln((N + r) / (r a^2))).
    units, tuned, alpha = 3000.0, 10_000.0, 0.05
    log_odds = -2 * np.log(alpha)
    r = tuned / (np.log(1 + log_odds) + log_odds)
    published = np.sqrt((units + r) / units * np.log((units + r) / (r * alpha**2)))
    ours = Anytime(tuned, alpha).read(scored(0.0, units / 2)).critical
    assert ours == pytest.approx(published, rel=1e-12)


@pytest.mark.parametrize("gain", [0.1, 1.0, 8.0, 100.0])
def test_the_half_normal_mixture_by_quadrature_and_its_published_bound(gain: float) -> None:
    for z in (-1.0, 0.5, 3.0):
        mixture, _ = integrate.quad(
            lambda effect, z=z: (
                2 * stats.norm.pdf(effect, 0, np.sqrt(gain)) * np.exp(effect * z - effect**2 / 2)
            ),
            0,
            12 * np.sqrt(gain),
            epsabs=1e-13,
            limit=300,
        )
        ours = np.exp(half_normal_log_e(np.asarray(z), np.asarray(gain)))
        assert ours == pytest.approx(mixture, rel=1e-8)
    # The closed bound of Waudby-Smith et al. (2021), equation 134, is a little wider.
    published = np.sqrt(2 * (gain + 1) / gain * np.log(1 + np.sqrt(gain + 1) / (2 * 0.05)))
    exact = float(half_normal_critical(np.asarray(0.05), np.asarray(gain)))
    assert 0.98 * published < exact < published


@pytest.mark.parametrize(
    ("t", "prior", "effective", "dof"),
    [(1.5, 5.0, 20.0, 78.0), (2.5, 1.0, 10.0, 15.0), (-1.0, 2.0, 10.0, 30.0)],
)
def test_the_t_mixtures_are_integrals_of_noncentral_t(
    t: float, prior: float, effective: float, dof: float
) -> None:
    sd = prior**-0.5

    def ratio(effect: float) -> float:
        lifted = stats.nct.pdf(t, dof, effect * np.sqrt(effective))
        return float(stats.norm.pdf(effect, 0, sd) * lifted / stats.t.pdf(t, dof))

    share = np.asarray(prior / (prior + effective))
    both, _ = integrate.quad(ratio, -9 * sd, 9 * sd, epsabs=1e-12, limit=200)
    positive, _ = integrate.quad(ratio, 0, 9 * sd, epsabs=1e-12, limit=200)
    assert np.exp(t_log_e(np.asarray(t), share, np.asarray(dof))) == pytest.approx(both, rel=1e-9)
    one_sided = np.exp(half_t_log_e(np.asarray(t), share, np.asarray(dof)))
    assert one_sided == pytest.approx(2 * positive, rel=1e-9)


def test_the_t_sequence_matches_savvi() -> None:
    # savvi 0.3.1, LinearRegression(0.05, 2, phi=1) after 12 units: t = 4.43399 with an effective
    # sample of 3 (6 and 6 units); it takes 9 degrees of freedom.
    share, dof = np.asarray(1 / (1 + 3)), np.asarray(9.0)
    p_value = np.exp(-t_log_e(np.asarray(4.43398973), share, dof))
    assert p_value == pytest.approx(0.05395792, rel=1e-6)
    std_err = 2.16666654 / 4.43398973
    half_width = std_err * t_critical(np.asarray(0.05), share, dof)
    assert half_width == pytest.approx((4.38356242 + 0.05022934) / 2, rel=1e-6)


@settings(max_examples=150, deadline=None)
@given(st.floats(1e-6, 0.5), st.floats(1e-3, 1e4), st.floats(1e-5, 0.9), st.floats(2, 1e7))
def test_critical_values_are_where_the_e_value_reaches_one_over_alpha(
    level: float, gain: float, share: float, dof: float
) -> None:
    alpha, m = np.asarray(level), np.asarray(gain)
    r, nu = np.asarray(share), np.asarray(dof)
    wanted = -np.log(level)
    assert normal_log_e(normal_critical(alpha, m), m) == pytest.approx(wanted, rel=1e-9)
    assert half_normal_log_e(half_normal_critical(alpha, m), m) == pytest.approx(wanted, rel=1e-8)
    two_sided, one_sided = t_critical(alpha, r, nu), half_t_critical(alpha, r, nu)
    if np.isfinite(two_sided) and two_sided < 1e6:
        assert t_log_e(two_sided, r, nu) == pytest.approx(wanted, rel=1e-5)
        assert half_t_log_e(one_sided, r, nu) == pytest.approx(wanted, rel=1e-5)
        assert one_sided <= two_sided
    elif not np.isfinite(two_sided):
        assert t_log_e(np.asarray(1e9), r, nu) < wanted + 1e-9


inferences = st.one_of(
    st.builds(Anytime, st.floats(10, 1e6), st.floats(1e-4, 0.5), st.sampled_from(list(Side))),
    st.builds(AnytimeT, st.floats(0.1, 1e4), st.floats(1e-4, 0.5), st.sampled_from(list(Side))),
)


@settings(max_examples=300, deadline=None)
@given(
    inferences,
    st.floats(-9, 9),
    st.integers(2, 10**7),
    st.floats(-20, 20).filter(lambda mean: mean == 0 or abs(mean) > 1e-3),
)
def test_intervals_exclude_zero_exactly_when_p_is_below_alpha(
    inference: Inference, z: float, units: int, control: float
) -> None:
    reading = inference.read(scored(z, units, control))
    assert reading.log_e is not None
    assert reading.critical is not None
    rejected = bool(reading.p_value < inference.alpha)
    assert bool(reading.difference.excludes(0.0)) == rejected
    near = abs(abs(z) - reading.critical) < 1e-6 * abs(z)
    if not near:
        assert (reading.log_e > -np.log(inference.alpha)) == rejected
        if control != 0:
            assert bool(reading.lift.excludes(0.0)) == rejected


def test_a_corrected_level_is_read_at_the_same_tuning() -> None:
    contrast = scored([3.3, 3.3, 1.0])
    plain = Anytime(2e6).read(contrast)
    levels = np.array([0.05, 0.001, 0.05])
    corrected = Anytime(2e6, levels, tuned_level=0.05).read(contrast)
    assert plain.critical is not None
    assert corrected.critical is not None
    assert corrected.critical[0] == plain.critical[0]
    assert list(corrected.difference.excludes(0.0)) == [True, False, False]
    assert list(corrected.p_value < levels) == [True, False, False]
    # Between the levels the p-value stays what it was.
    assert corrected.p_value[1] == pytest.approx(plain.p_value[1], rel=1e-12)


def test_far_evidence_keeps_its_size_and_p_does_not_become_zero() -> None:
    reading = Anytime().read(scored([60.0, -60.0]))
    assert reading.log_e is not None
    assert np.all(reading.log_e > 1000)
    assert np.all(reading.p_value > 0)


def test_a_statistic_beyond_all_measure_has_a_finite_e_value() -> None:
    for inference in (Anytime(), AnytimeT(10.0), Anytime(100.0, 0.05, Side.GREATER)):
        reading = inference.read(scored(1e120))
        assert reading.log_e is not None
        assert np.isfinite(reading.log_e)
        assert reading.p_value > 0


def test_few_units_leave_the_t_sequence_unbounded_and_it_says_so() -> None:
    reading = AnytimeT(1000.0).read(scored([0.0, 50.0], 2))
    assert list(reading.difference.shape) == [Shape.EVERYTHING] * 2
    assert np.all(np.isneginf(reading.difference.low))
    assert list(reading.lift.shape) == [Shape.EVERYTHING] * 2
    assert np.all(reading.p_value > 0.99)


def test_with_many_units_the_t_sequence_is_the_asymptotic_one() -> None:
    asymptotic, exact = Anytime(1e6), AnytimeT.tuned(1e6)
    contrast = scored(np.linspace(-4, 4, 9), 5e5)
    ours, limit = exact.read(contrast), asymptotic.read(contrast)
    # Their tunings differ a little: the closed formula of the former is nearly the minimum.
    assert ours.critical == pytest.approx(limit.critical, rel=2e-4)
    assert exact.prior_units * 4 * asymptotic._mixing() == pytest.approx(1.0, rel=0.05)


def test_gaps_pass_through() -> None:
    one = estimate(Moments.from_rows([[1.0]]), Mean(0))
    many = estimate(Moments.from_rows([[1.0], [2.0], [4.0]]), Mean(0))
    for inference in (Anytime(), AnytimeT(10.0)):
        reading = inference.read(Contrast(one, many))
        assert reading.gap == Gap.ONE_UNIT
        after = running(before(), reading)
        assert after.p_value == 1.0
        assert np.isneginf(after.log_e)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-5, 5), min_size=1, max_size=12))
def test_the_running_p_value_never_rises(scores: list[float]) -> None:
    so_far, last = before(), 1.0
    for look, z in enumerate(scores, start=1):
        so_far = running(so_far, Anytime(1000).read(scored(z, 100 * look)))
        assert so_far.p_value <= last
        last = float(so_far.p_value)
    assert last == pytest.approx(min(1.0, float(np.exp(-so_far.log_e))), rel=1e-6)


def paths(trials: int, looks: int, per_look: int, seed: int) -> Contrast:
    """A/A tests of normal outcomes at every look: one contrast of trials + looks."""
    rng = np.random.default_rng(seed)
    units = per_look * np.arange(1, looks + 1, dtype=float)
    arms = []
    for _ in range(2):
        # Sums and sums of squares of each batch have known distributions; here they are exact.
        total = np.cumsum(rng.normal(0, np.sqrt(per_look), (trials, looks)), axis=1)
        within = np.cumsum(rng.chisquare(per_look - 1, (trials, looks)), axis=1)
        mean = total / units
        batch_means = np.diff(total, axis=1, prepend=0.0) / per_look
        between = per_look * np.cumsum(batch_means**2, axis=1) - units * mean**2
        variance = (within + between) / (units - 1) / units
        none = np.zeros(mean.shape, dtype=np.uint8)
        arms.append(Estimate(mean, variance, np.broadcast_to(units, mean.shape), none, none))
    return Contrast(arms[0], arms[1])


@pytest.mark.parametrize(
    "inference",
    [
        Anytime(2000),
        Anytime(20_000, 0.05, Side.GREATER),
        AnytimeT.tuned(2000),
        AnytimeT(20.0, 0.05, Side.LESS),
    ],
)
def test_a_thousand_looks_keep_the_level(inference: Inference) -> None:
    contrast = paths(400, 1000, 20, seed=21)
    rejected = (inference.read(contrast).p_value < 0.05).any(axis=1).mean()
    # 400 trials: Monte Carlo standard error 0.8 points at the 2.5 % that is to be expected.
    assert 0.003 < rejected < 0.05


def test_the_t_sequence_is_exact_from_the_first_units_where_the_asymptotic_one_is_not() -> None:
    contrast = paths(4000, 60, 2, seed=22)
    exact = (AnytimeT(1.0).read(contrast).p_value < 0.05).any(axis=1).mean()
    asymptotic = (Anytime(40).read(contrast).p_value < 0.05).any(axis=1).mean()
    # 4,000 trials: Monte Carlo standard error 0.35 points.
    assert exact < 0.055
    assert asymptotic > 0.08


def adjusted_paths(trials: int, batches: int, per_batch: int) -> tuple[Contrast, Contrast]:
    """A/A tests with a covariate that explains half of the variance: plain and adjusted."""
    rng = np.random.default_rng(23)
    shape = (trials, 2, batches, per_batch)
    covariate = rng.normal(5, 1, shape)
    rows = np.stack([covariate + rng.normal(0, 1, shape), covariate], axis=-1)
    seen = rows.reshape(trials, 2, batches * per_batch, 2)
    units = per_batch * np.arange(1, batches + 1)
    sums = seen.cumsum(axis=2)[:, :, units - 1]
    products = np.einsum("taui,tauj->tauij", seen, seen).cumsum(axis=2)[:, :, units - 1]
    mean = sums / units[:, None]
    co_moment = products - np.einsum("taui,tauj->tauij", sums, mean)
    # The looks go before the arms, which adjust() takes last.
    moments = Moments.of(
        np.broadcast_to(units[:, None], (trials, batches, 2)),
        mean.swapaxes(1, 2),
        co_moment.swapaxes(1, 2),
    )
    found = adjust(moments, Mean(0), [Mean(1)])
    return Contrast(found.plain[..., :1], found.plain[..., 1:]), found.joint.contrast(0)


def test_regression_adjustment_narrows_the_sequence_and_keeps_its_level() -> None:
    plain, adjusted = adjusted_paths(1000, 40, 25)
    inference = AnytimeT.tuned(1000)
    wide, narrow = inference.read(plain), inference.read(adjusted)
    ratio = (narrow.difference.high - narrow.difference.low) / (
        wide.difference.high - wide.difference.low
    )
    assert np.median(ratio[:, -1]) == pytest.approx(np.sqrt(0.5), abs=0.01)
    rejected = (narrow.p_value < 0.05).any(axis=(1, 2)).mean()
    # 1,000 trials: Monte Carlo standard error 0.7 points at 5 %.
    assert 0.005 < rejected < 0.05


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Anytime(0.0), r"tuned_for is 0\.0"),
        (lambda: Anytime(100.0, 0.6), r"alpha is 0\.6; it must be above 0 and at most 0\.5"),
        (lambda: Anytime(100.0, np.array([0.05, 0.01])), "tuned_level is None and alpha an array"),
        (lambda: Anytime(100.0, 0.05, Side.LESS, 0.9), r"tuned_level is 0\.9"),
        (lambda: AnytimeT(-1.0), r"prior_units is -1\.0"),
        (lambda: AnytimeT.tuned(2.0), r"units is 2\.0; it must be finite and above 3"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(make: object, words: str) -> None:
    assert callable(make)
    with pytest.raises(ValueError, match=words):
        make()
