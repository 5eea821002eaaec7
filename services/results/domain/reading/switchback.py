"""What else the windows of a switchback say: a test by permutation, and what windows leave behind.

The comparison of record takes the windows, of each region by itself, for independent: their
variants were drawn independently. The permutation test rests on that alone.
"""

from dataclasses import dataclass

import numpy as np
from touchstone_statistics.cluster import Codes, Sums
from touchstone_statistics.contrast import Contrast
from touchstone_statistics.inference import Fixed, Reading
from touchstone_statistics.switchback import PermutationTest, carry_over, permutation_test

from services.results.domain.clustering import Windows
from services.results.domain.observation import ExperimentPlan
from services.results.domain.reading.measured import Measured, of_record

SEED = 20_170_101
"""The same assignments are drawn each time, so that the same data has the same answer."""
REPETITIONS = 2_000


@dataclass(frozen=True, slots=True, eq=False)
class WindowChecks:
    """One treatment. `left_over` compares windows after the treatment with windows after the
    control, whatever they have themselves.
    """

    permutation: PermutationTest
    left_over: Contrast
    reading: Reading


def check_windows(found: Measured, plan: ExperimentPlan, alpha: float) -> tuple[WindowChecks, ...]:
    """For each treatment, at one look; none without a switchback."""
    if found.clusters is None or found.clusters.seen.windows is None:
        return ()
    windows = found.clusters.seen.windows
    ratio = found.clusters.ratio_of(of_record(found.measure))
    columns = np.column_stack([windows.totals, windows.size])
    total, size = columns[:, ratio.numerator], columns[:, ratio.denominator]
    return tuple(
        _of_pair(windows, total, size, (plan.control_index, arm), alpha) for arm in plan.treatments
    )


def _of_pair(
    windows: Windows,
    total: np.ndarray,
    size: np.ndarray,
    arms: tuple[int, int],
    alpha: float,
) -> WindowChecks:
    """`arms` are those of the control and of the treatment."""
    chosen = np.isin(windows.arm, arms) & (windows.size > 0)
    arm = (windows.arm[chosen] == arms[1]).astype(np.intp)
    each = np.arange(arm.size)
    sums = Sums(total[chosen], size[chosen], arm, windows.region[chosen])
    tested = permutation_test(sums, each, np.random.default_rng(SEED), REPETITIONS)
    apart = Sums(total[chosen], size[chosen], arm, each)
    left_over = carry_over(apart, _previous(windows, chosen, arms))
    return WindowChecks(tested, left_over, Fixed(alpha).read(left_over))


def _previous(windows: Windows, chosen: np.ndarray, arms: tuple[int, int]) -> Codes:
    """0 for a window after one of the control, 1 after one of the treatment, otherwise -1."""
    seen: dict[tuple[int, int], set[int]] = {}
    for region, period, arm in zip(windows.region, windows.period, windows.arm, strict=True):
        seen.setdefault((int(region), int(period)), set()).add(int(arm))
    codes = {frozenset({arm}): code for code, arm in enumerate(arms)}
    before = [
        codes.get(frozenset(seen.get((int(region), int(period) - 1), ())), -1)
        for region, period in zip(windows.region[chosen], windows.period[chosen], strict=True)
    ]
    return np.array(before, dtype=np.intp)
