"""A/A simulation: it passes what is calibrated and exposes what is not."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import statsmodels.api as sm
from scipy import stats
from statsmodels.stats.proportion import proportion_confint
from touchstone_statistics.aa import Splits, binomial_interval, simulate_aa, simulate_aa_looks
from touchstone_statistics.boundaries import Ledger, Plan, advance
from touchstone_statistics.contrast import Contrast
from touchstone_statistics.estimand import Mean, Ratio
from touchstone_statistics.inference import Fixed, Reading
from touchstone_statistics.sequential import GroupSequential


def revenue(units: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.where(rng.random(units) < 0.2, rng.lognormal(3, 0.8, units), 0.0)


def test_a_calibrated_inference_passes_on_skewed_units() -> None:
    ours = simulate_aa(revenue(4000, 1), Fixed(), Splits(2000, seed=2))
    assert ours.calibrated
    assert ours.uniformity_p > 0.001
    assert ours.skipped == 0
    assert ours.rate_low < 0.05 < ours.rate_high
    assert ours.rejection_rate == pytest.approx(ours.rejections / 2000)


@dataclass(frozen=True)
class TooSure:
    """A broken twin: it takes the standard error for two thirds of what it is."""

    def read(self, contrast: Contrast) -> Reading:
        reading = Fixed().read(contrast)
        return replace(reading, p_value=2 * stats.norm.sf(1.5 * np.abs(reading.statistic)))


def test_an_inference_that_is_too_sure_is_exposed() -> None:
    ours = simulate_aa(revenue(2000, 3), TooSure(), Splits(1000))
    assert not ours.calibrated
    assert ours.rejection_rate > 0.1
    assert ours.uniformity_p < 1e-6


def test_ratio_metrics_and_unequal_splits_are_simulated_by_their_columns() -> None:
    rng = np.random.default_rng(4)
    sessions = rng.poisson(4, 5000) + 1.0
    rows = np.column_stack([sessions * rng.gamma(2, 1, 5000), sessions])
    ours = simulate_aa(rows, Fixed(), Splits(1500, 5, 0.2), Ratio(0, 1))
    assert ours.calibrated


def test_covariates_leave_the_error_as_it_is_and_each_split_has_slopes_of_its_own() -> None:
    rng = np.random.default_rng(11)
    before = rng.gamma(2, 5, 3000)
    rows = np.column_stack([before + rng.normal(0, 2, 3000), before])
    ours = simulate_aa(rows, Fixed(), Splits(1500, seed=12), covariates=[Mean(1)])
    assert ours.calibrated
    assert ours.uniformity_p > 0.001
    one = simulate_aa(rows, Fixed(), Splits(1, seed=13), covariates=[Mean(1)])
    drawn = np.random.default_rng(13).random((1, 3000), dtype=np.float32)[0] < 0.5
    arms = sm.add_constant(np.column_stack([drawn.astype(float), rows[:, 1]]))
    # The regression has one variance for both arms, where ours has one for each.
    assert one.p_values[0] == pytest.approx(sm.OLS(rows[:, 0], arms).fit().pvalues[1], rel=0.05)


def test_a_split_is_read_as_welch_reads_it() -> None:
    values = 1e9 + np.random.default_rng(6).normal(0, 1, 500)
    ours = simulate_aa(values, Fixed(), Splits(1, seed=7))
    drawn = np.random.default_rng(7).random((1, 500), dtype=np.float32)[0] < 0.5
    expected = stats.ttest_ind(values[drawn] - 1e9, values[~drawn] - 1e9, equal_var=False).pvalue
    assert ours.p_values[0] == pytest.approx(expected, rel=1e-5)


def test_the_same_seed_gives_the_same_answer() -> None:
    first, second = (simulate_aa(revenue(300, 8), Fixed(), Splits(50, 9)) for _ in range(2))
    np.testing.assert_array_equal(first.p_values, second.p_values)


@pytest.mark.parametrize("units", [[], [1.0], [2.0] * 50])
def test_splits_without_a_p_value_are_counted(units: list[float]) -> None:
    ours = simulate_aa(np.asarray(units), Fixed(), Splits(20))
    assert ours.skipped == 20
    assert (ours.rate_low, ours.rate_high) == (0.0, 1.0)


def test_the_binomial_interval_matches_statsmodels() -> None:
    for successes, trials in ((0, 10), (3, 40), (40, 40), (51, 1000)):
        expected = proportion_confint(successes, trials, 0.01, method="beta")
        assert binomial_interval(successes, trials) == pytest.approx(expected)
    with pytest.raises(ValueError, match="successes is 5 of 4"):
        binomial_interval(5, 4)


def test_senseless_input_is_refused() -> None:
    with pytest.raises(ValueError, match="not finite"):
        simulate_aa([1.0, np.nan], Fixed())
    with pytest.raises(ValueError, match="repetitions is 0"):
        Splits(0)
    with pytest.raises(ValueError, match="treated_share is 1"):
        Splits(treated_share=1.0)


def test_one_look_is_the_simulation_without_looks() -> None:
    rows = revenue(1500, 6)
    once = simulate_aa(rows, Fixed(), Splits(400, 9))
    assert np.array_equal(
        once.p_values, simulate_aa_looks(rows, [Fixed()], Splits(400, 9)).p_values
    )


def test_peeking_at_a_fixed_test_errs_as_often_as_armitage_says() -> None:
    """Armitage, McPherson and Rowe (1969), table 2: 5 looks at 5% err 14.2% of the time."""
    rng = np.random.default_rng(8)
    found = simulate_aa_looks(rng.normal(size=2000), [Fixed()] * 5, Splits(4000, 10))
    assert abs(found.rejection_rate - 0.142) < 0.02


def test_boundaries_of_five_looks_keep_the_level() -> None:
    rng = np.random.default_rng(9)
    plan, ledger, looks = Plan(2000.0), Ledger(), []
    for look in range(1, 6):
        ledger = advance(plan, ledger, 400.0 * look)
        looks.append(GroupSequential(plan, ledger))
    found = simulate_aa_looks(rng.normal(size=2000), looks, Splits(4000, 11))
    assert found.calibrated


def test_looks_see_shares_of_the_same_units() -> None:
    rows, seen = np.arange(100.0), []

    class Counting:
        def read(self, contrast: Contrast) -> Reading:
            seen.append(contrast.control.units + contrast.treatment.units)
            return Fixed().read(contrast)

    simulate_aa_looks(rows, [Counting()] * 3, Splits(5, 1))
    assert [sorted(set(np.ravel(units))) for units in seen] == [[33.0], [66.0], [100.0]]
    with pytest.raises(ValueError, match="looks is empty"):
        simulate_aa_looks(rows, [])
