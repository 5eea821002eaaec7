"""A real e-mail test in full: every outcome, adjusted by all that was known of a customer before,
against least squares. Without the whole data the sample that the guides use is taken.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from touchstone_statistics.adjust import adjust
from touchstone_statistics.contrast import Contrast
from touchstone_statistics.estimand import Mean, estimate
from touchstone_statistics.inference import Fixed
from touchstone_statistics.moments import Moments

REPOSITORY = Path(__file__).parents[3]
WHOLE = REPOSITORY.parent / "shared" / "data" / "hillstrom.csv"
SAMPLE = REPOSITORY / "docs" / "examples" / "email.csv"
KNOWN_BEFORE = ("recency", "history", "mens", "womens", "newbie", "zip_code", "channel")
ARMS = ("No E-Mail", "Mens E-Mail", "Womens E-Mail")
OUTCOMES = ("visit", "conversion", "spend")


@pytest.fixture(scope="module")
def customers() -> pd.DataFrame:
    rows = pd.read_csv(WHOLE if WHOLE.exists() else SAMPLE)
    return rows[rows["treatment"].isin(ARMS)]


@pytest.fixture(scope="module")
def covariates(customers: pd.DataFrame) -> np.ndarray:
    known = [name for name in KNOWN_BEFORE if name in customers]
    return pd.get_dummies(customers[known], drop_first=True).to_numpy(dtype=float)


def moments(customers: pd.DataFrame, *columns: np.ndarray) -> Moments:
    rows = np.column_stack(columns)
    parts = [Moments.from_rows(rows[(customers["treatment"] == arm).to_numpy()]) for arm in ARMS]
    return Moments.of(
        [part.units for part in parts],
        [part.mean for part in parts],
        [part.co_moment for part in parts],
    )


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_adjusted_comparisons_are_those_of_least_squares(
    customers: pd.DataFrame, covariates: np.ndarray, outcome: str
) -> None:
    values = customers[outcome].to_numpy(dtype=float)
    arms = np.column_stack([customers["treatment"] == arm for arm in ARMS]).astype(float)
    fit = sm.OLS(values, np.column_stack([arms, covariates])).fit()
    robust = fit.get_robustcov_results("HC2").cov_params()
    seen = moments(customers, values, covariates)
    ours = adjust(seen, Mean(0), [Mean(1 + column) for column in range(covariates.shape[1])])
    contrast = ours.joint.contrast(0)
    variance = [robust[a, a] + robust[0, 0] - 2 * robust[a, 0] for a in (1, 2)]
    np.testing.assert_allclose(contrast.difference, fit.params[1:3] - fit.params[0], rtol=1e-8)
    np.testing.assert_allclose(contrast.std_err, np.sqrt(variance), rtol=0.01)
    plain = Contrast(ours.plain[:1], ours.plain[1:])
    assert (contrast.std_err < plain.std_err * 1.01).all()


def test_every_outcome_of_all_customers_in_one_call(
    customers: pd.DataFrame, covariates: np.ndarray
) -> None:
    """Three outcomes at once are each alone."""
    alone = [moments(customers, customers[name].to_numpy(dtype=float)) for name in OUTCOMES]
    together = Moments.of(
        np.stack([part.units for part in alone]),
        np.stack([part.mean for part in alone]),
        np.stack([part.co_moment for part in alone]),
    )
    arms = estimate(together, Mean(0))
    whole = Fixed().read(Contrast(arms[:, :1], arms[:, 1:]))
    for index, part in enumerate(alone):
        single = estimate(part, Mean(0))
        read = Fixed().read(Contrast(single[:1], single[1:]))
        np.testing.assert_array_equal(whole.p_value[index], read.p_value)
        np.testing.assert_array_equal(whole.lift.low[index], read.lift.low)
