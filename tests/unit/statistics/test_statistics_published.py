"""Published data sets and tea-tasting's own data, read from moments to interval."""

import numpy as np
import pandas as pd
import pytest
import tea_tasting as tt
from touchstone_statistics.contrast import Contrast
from touchstone_statistics.estimand import Estimand, Mean, Ratio, estimate
from touchstone_statistics.inference import Fixed
from touchstone_statistics.interval import Side
from touchstone_statistics.moments import Moments

# Cushny and Peebles (1905), as used by Student (1908): R's data set `sleep`.
FIRST = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
SECOND = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]


def contrast_of(arms: list[np.ndarray], estimand: Estimand) -> Contrast:
    control, treatment = (estimate(Moments.from_rows(arm), estimand) for arm in arms)
    return Contrast(control, treatment)


def test_the_sleep_data_give_what_r_prints() -> None:
    reading = Fixed().read(
        contrast_of([np.reshape(FIRST, (-1, 1)), np.reshape(SECOND, (-1, 1))], Mean(0))
    )
    # t.test(extra ~ group, data = sleep), with the sign turned.
    assert reading.statistic == pytest.approx(1.8608, abs=5e-5)
    assert reading.dof == pytest.approx(17.776, abs=5e-4)
    assert reading.p_value == pytest.approx(0.07939, abs=5e-6)
    assert reading.difference.low == pytest.approx(-0.2054832, abs=5e-8)
    assert reading.difference.high == pytest.approx(3.3654832, abs=5e-8)
    above = Fixed(0.05, Side.GREATER).read(
        contrast_of([np.reshape(FIRST, (-1, 1)), np.reshape(SECOND, (-1, 1))], Mean(0))
    )
    assert above.p_value == pytest.approx(0.07939 / 2, abs=5e-6)
    assert np.isposinf(above.difference.high)


@pytest.fixture(scope="module")
def visits() -> pd.DataFrame:
    data = tt.make_users_data(rng=7, n_users=8000, return_type="pandas")
    assert isinstance(data, pd.DataFrame)
    return data


@pytest.mark.parametrize(
    ("alternative", "side"),
    [("two-sided", Side.TWO_SIDED), ("greater", Side.GREATER), ("less", Side.LESS)],
)
def test_means_and_ratios_are_tea_tastings(
    visits: pd.DataFrame, alternative: str, side: Side
) -> None:
    names = ["orders", "sessions"]
    arms = [visits.loc[visits.variant == v, names].to_numpy(dtype=float) for v in (0, 1)]
    theirs = tt.Experiment(
        mean=tt.Mean("orders", alternative=alternative, confidence_level=0.9),
        ratio=tt.RatioOfMeans("orders", "sessions", alternative=alternative, confidence_level=0.9),
    ).analyze(visits)
    estimands: dict[str, Estimand] = {"mean": Mean(0), "ratio": Ratio(0, 1)}
    for name, estimand in estimands.items():
        contrast = contrast_of(arms, estimand)
        reading, reference = Fixed(0.1, side).read(contrast), theirs[name]
        assert contrast.difference == pytest.approx(reference.effect_size, rel=1e-9)
        assert contrast.lift == pytest.approx(reference.rel_effect_size, rel=1e-9)
        assert reading.statistic == pytest.approx(reference.statistic, rel=1e-9)
        assert reading.p_value == pytest.approx(reference.pvalue, rel=1e-8)
        assert reading.difference.low == pytest.approx(reference.effect_size_ci_lower, rel=1e-8)
        assert reading.difference.high == pytest.approx(reference.effect_size_ci_upper, rel=1e-8)
        # Its interval of the lift is on the log scale: near Fieller's, not equal to it.
        for ours, end in (
            (reading.lift.low, reference.rel_effect_size_ci_lower),
            (reading.lift.high, reference.rel_effect_size_ci_upper),
        ):
            if np.isfinite(ours):
                assert ours == pytest.approx(end, abs=4e-3)
