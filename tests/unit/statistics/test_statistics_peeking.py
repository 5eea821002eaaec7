"""The table of what peeking does is what a simulation finds."""

import pytest
from touchstone_statistics.peeking import PEEKING, Peeking

from tests.calibration.bayes import daily_share


@pytest.mark.parametrize("row", PEEKING, ids=lambda row: f"{row.rule.value}-{row.prior_std_dev}")
def test_a_row_is_what_daily_looks_do(row: Peeking) -> None:
    repetitions = 2_000
    # Four standard errors of the simulation, and half a unit of the last digit shown.
    room = 4 * (row.daily_looks * (1 - row.daily_looks) / repetitions) ** 0.5 + 0.0005
    assert daily_share(row)(repetitions) == pytest.approx(row.daily_looks, abs=room)
