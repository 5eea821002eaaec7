"""Small samples of two proportions: published examples, enumeration, agreement of p and CI."""

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint
from touchstone_statistics.cells import Cells, exact_tests, newcombe, wilson
from touchstone_statistics.contrast import Contrast
from touchstone_statistics.estimand import Mean, estimate
from touchstone_statistics.gaps import FloatArray, Gap
from touchstone_statistics.inference import Fixed
from touchstone_statistics.interval import Side
from touchstone_statistics.margins import not_worse
from touchstone_statistics.moments import Moments
from touchstone_statistics.proportions import Proportions
from touchstone_statistics.score import restricted


def table(converted: object, units: object, control_converted: object, control: object) -> Cells:
    arrays = (control_converted, control, converted, units)
    return Cells(*np.broadcast_arrays(*(np.asarray(a, dtype=np.float64) for a in arrays)))


def contrast_of(cells: Cells, null_lift: float = 0.0) -> Contrast:
    arms = []
    for converted, units in (
        (cells.control_converted, cells.control_units),
        (cells.converted, cells.units),
    ):
        rate = converted / np.maximum(units, 1.0)
        co_moment = units * rate * (1.0 - rate)
        arms.append(estimate(Moments(units, rate[..., None], co_moment[..., None, None]), Mean(0)))
    return Contrast(arms[0], arms[1], null_lift)


def probability(converted: FloatArray, units: int, rate: float) -> FloatArray:
    return np.asarray(stats.binom.pmf(converted, units, rate))


def everywhere(alpha: float = 0.05, side: Side = Side.TWO_SIDED) -> Proportions:
    return Proportions(alpha, side, np.inf)


# Newcombe (1998), "Interval estimation for the difference", table II: methods 5 and 10.
PUBLISHED = [
    ((56, 70, 48, 80), (0.0528, 0.3382), (0.0524, 0.3339)),
    ((9, 10, 3, 10), (0.1700, 0.8406), (0.1705, 0.8090)),
    ((6, 7, 2, 7), (0.0342, 0.8534), (0.0582, 0.8062)),
    ((5, 56, 0, 29), (-0.0326, 0.1933), (-0.0381, 0.1926)),
    ((0, 10, 0, 20), (-0.1658, 0.2844), (-0.1611, 0.2775)),
    ((0, 10, 0, 10), (-0.2879, 0.2879), (-0.2775, 0.2775)),
    ((10, 10, 0, 20), (0.7156, 1.0000), (0.6791, 1.0000)),
    ((10, 10, 0, 10), (0.6636, 1.0000), (0.6075, 1.0000)),
]


@pytest.mark.parametrize(("counts", "score", "hybrid"), PUBLISHED)
def test_differences_match_newcombes_table(
    counts: tuple[int, int, int, int], score: tuple[float, float], hybrid: tuple[float, float]
) -> None:
    cells = table(*counts)
    ours = everywhere().read(contrast_of(cells)).difference
    assert (ours.low, ours.high) == pytest.approx(score, abs=6e-5)
    simple = newcombe(cells)
    assert (simple.low, simple.high) == pytest.approx(hybrid, abs=6e-5)


@pytest.mark.parametrize(
    ("converted", "units", "ends"),
    [(81, 263, (0.2553, 0.3662)), (15, 148, (0.0624, 0.1605)), (0, 20, (0.0, 0.1611)),
     (1, 29, (0.0061, 0.1718))],
)  # fmt: skip
def test_single_rates_match_newcombes_table(
    converted: int, units: int, ends: tuple[float, float]
) -> None:
    # Newcombe (1998), "Two-sided confidence intervals for the single proportion", method 3.
    ours = wilson(np.asarray(float(converted)), np.asarray(float(units)))
    assert (ours.low, ours.high) == pytest.approx(ends, abs=6e-5)
    assert (ours.low, ours.high) == pytest.approx(
        proportion_confint(converted, units, 0.05, "wilson")
    )


def test_no_units_leave_a_rate_anywhere() -> None:
    nothing = wilson(np.zeros(1), np.zeros(1))
    assert (nothing.low[0], nothing.high[0]) == (0.0, 1.0)


@pytest.mark.parametrize("counts", [(56, 70, 48, 80), (9, 10, 3, 10), (15, 10_000, 3, 9000)])
def test_the_lift_matches_statsmodels(counts: tuple[int, int, int, int]) -> None:
    expected = confint_proportions_2indep(*counts, compare="ratio", method="score")
    ours = everywhere().read(contrast_of(table(*counts))).lift
    assert (ours.low + 1, ours.high + 1) == pytest.approx(expected, rel=1e-7)


def test_a_control_without_conversions_leaves_the_lift_open_above() -> None:
    reading = everywhere().read(contrast_of(table(10, 10, 0, 20)))
    assert reading.lift.low == pytest.approx(5.032810, rel=1e-5)
    assert np.isposinf(reading.lift.high)
    nothing = everywhere().read(contrast_of(table(0, 10, 0, 20)))
    assert nothing.p_value == 1.0
    assert nothing.lift.low == -1.0
    assert np.isposinf(nothing.lift.high)


def test_rates_under_a_hypothesis_are_the_likeliest() -> None:
    rng = np.random.default_rng(1)
    units = rng.integers(2, 40, (2, 200)).astype(np.float64)
    converted = np.asarray(rng.binomial(units.astype(int), 0.3), dtype=np.float64)
    factor, shift = rng.uniform(0.5, 1.5, 200), rng.uniform(-0.4, 0.4, 200)
    found = restricted(Cells(converted[0], units[0], converted[1], units[1]), factor, shift)

    def likelihood(rate: FloatArray) -> FloatArray:
        treated = factor * rate + shift
        inside = (rate >= 0) & (rate <= 1) & (treated >= 0) & (treated <= 1)
        value = stats.binom.logpmf(converted[0], units[0], np.clip(rate, 0, 1))
        value = value + stats.binom.logpmf(converted[1], units[1], np.clip(treated, 0, 1))
        return np.where(inside, value, -np.inf)

    best = likelihood(np.clip(found, np.maximum(0, -shift / factor), (1 - shift) / factor))
    for step in (1e-4, 1e-2):
        assert np.all(best >= likelihood(found + step) - 1e-9)
        assert np.all(best >= likelihood(found - step) - 1e-9)


@pytest.mark.parametrize("side", list(Side))
@pytest.mark.parametrize(
    ("null_lift", "alpha"), [(0.0, 0.05), (0.0, 0.001), (-0.3, 0.2), (0.1, 0.05)]
)
def test_intervals_exclude_the_null_exactly_when_p_is_below_alpha(
    null_lift: float, alpha: float, side: Side
) -> None:
    """Every table of these sizes."""
    each = [
        np.broadcast_arrays(*np.meshgrid(np.arange(n + 1.0), np.arange(m + 1.0)), n, m)
        for n in (1, 3, 8, 20)
        for m in (2, 9, 25)
    ]
    x, y, n, m = (np.concatenate([part[i].ravel() for part in each]) for i in range(4))
    contrast = contrast_of(table(y, m, x, n), null_lift)
    reading = everywhere(alpha, side).read(contrast)
    clear = np.abs(reading.p_value / alpha - 1) > 1e-6
    rejected = reading.p_value < alpha
    assert rejected[clear].any() or alpha == 0.001
    np.testing.assert_array_equal(reading.difference.excludes(0.0)[clear], rejected[clear])
    np.testing.assert_array_equal(reading.lift.excludes(null_lift)[clear], rejected[clear])
    # A difference at the edge of what is possible is the end of its own interval.
    assert np.all(reading.difference.low <= contrast.difference + 1e-12)
    assert np.all(contrast.difference <= reading.difference.high + 1e-12)


@pytest.mark.parametrize(("units", "rate"), [(30, 0.1), (60, 0.05), (15, 0.3)])
def test_the_level_holds_by_enumeration(units: int, rate: float) -> None:
    control, treatment = np.meshgrid(np.arange(units + 1.0), np.arange(units + 1.0))
    reading = everywhere(0.05).read(contrast_of(table(treatment, units, control, units)))
    chance = probability(treatment, units, rate) * probability(control, units, rate)
    wrong = reading.p_value < 0.05
    # The score test is not conservative at every rate, as Fisher's is, but stays near its level.
    assert 0.02 < float(chance[wrong].sum()) < 0.056
    assert float(chance[wrong & (treatment > control)].sum()) < 0.03
    coverage = chance[~reading.lift.excludes(0.0)].sum()
    assert coverage == pytest.approx(1 - chance[wrong].sum(), abs=1e-12)


def test_a_margin_of_rates_matches_the_level_by_enumeration() -> None:
    units, rate = 60, 0.4
    control, treatment = np.meshgrid(np.arange(units + 1.0), np.arange(units + 1.0))
    contrast = not_worse(contrast_of(table(treatment, units, control, units)), 0.2)
    p_value = everywhere(0.05, Side.GREATER).read(contrast).p_value
    chance = probability(treatment, units, 0.8 * rate) * probability(control, units, rate)
    assert 0.035 < float(chance[p_value < 0.05].sum()) < 0.057


def test_exact_tests_match_published_p_values() -> None:
    # Fisher (1935), the lady tasting tea; Mehta and Senchaudhuri (2003), vaccine data.
    tea = exact_tests(table(3, 4, 1, 4))
    assert tea.fisher == pytest.approx(0.4857, abs=1e-4)
    vaccine = exact_tests(table(7, 15, 12, 15), Side.LESS)
    assert vaccine.barnard == pytest.approx(0.0341, abs=1e-4)
    assert vaccine.fisher == pytest.approx(0.0641, abs=1e-4)
    assert vaccine.boschloo == pytest.approx(0.0341, abs=1e-3)
    assert exact_tests(table(7, 15, 12, 15), Side.GREATER).fisher > 0.9


def test_exact_tests_say_what_they_did_not_do() -> None:
    several = exact_tests(table([0, 2, 3], [0, 900, 20], [1, 4, 0], [5, 900, 20]))
    assert list(several.gap) == [Gap.NO_UNITS, Gap.NONE, Gap.NONE]
    assert list(several.unconditional_gap) == [Gap.NO_UNITS, Gap.NOT_APPLICABLE, Gap.NONE]
    assert 0 < several.barnard[2] < several.fisher[2] < 1
    assert exact_tests(table(0, 9, 0, 9)).barnard == 1.0


def test_only_small_cells_are_read_by_the_score_test() -> None:
    cells = table([[5, 500], [0, 30]], [[50, 5000], [0, 100]], [[2, 350], [0, 20]], 400)
    contrast = contrast_of(cells)
    mixed, usual = Proportions().read(contrast), Fixed().read(contrast)
    score = everywhere().read(contrast)
    small = cells.smallest_expected < 10
    assert small.tolist() == [[True, False], [True, False]]
    for name in ("p_value", "statistic", "dof"):
        np.testing.assert_array_equal(
            getattr(mixed, name), np.where(small, getattr(score, name), getattr(usual, name))
        )
    np.testing.assert_array_equal(
        mixed.lift.high, np.where(small, score.lift.high, usual.lift.high)
    )
    assert mixed.gap.tolist() == [[Gap.NONE, Gap.NONE], [Gap.NO_UNITS, Gap.NONE]]


def test_large_samples_agree_with_welch() -> None:
    contrast = contrast_of(table(5200.0, 100_000.0, 5000.0, 100_000.0))
    score, usual = everywhere().read(contrast), Fixed().read(contrast)
    assert score.p_value == pytest.approx(float(usual.p_value), rel=5e-3)
    assert score.lift.low == pytest.approx(float(usual.lift.low), abs=2e-4)


def test_means_that_are_no_proportions_are_refused() -> None:
    arm = estimate(Moments.from_rows([[1.0], [2.5], [0.0]]), Mean(0))
    with pytest.raises(ValueError, match="each must be a proportion"):
        Proportions().read(Contrast(arm, arm))
    with pytest.raises(ValueError, match="alpha is"):
        Proportions(0.0)
    with pytest.raises(ValueError, match="below is"):
        Proportions(0.05, Side.GREATER, -1.0)
