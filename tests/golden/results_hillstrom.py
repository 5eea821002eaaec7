"""Figures of a real e-mail experiment, computed by scipy from its rows and by nothing of ours.

Kevin Hillstrom's MineThatData challenge of 2008: 64,000 customers in three arms. Regenerate with
`python tests/golden/results_hillstrom.py FILE.csv > tests/golden/results_hillstrom.json`
and read the difference: it should only ever grow.
"""

import csv
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy import optimize, stats

CONTROL = "No E-Mail"
TREATMENTS = ("Mens E-Mail", "Womens E-Mail")
METRICS = ("visit", "conversion", "spend")
CENT = 100


def figures(path: Path) -> dict[str, object]:
    """For each metric and arm the exact totals, and for each treatment what scipy says."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    values = {
        metric: {
            arm: np.array([float(row[metric]) for row in rows if row["treatment"] == arm])
            for arm in (CONTROL, *TREATMENTS)
        }
        for metric in METRICS
    }
    return {
        "source": "MineThatData E-Mail Analytics challenge, Kevin Hillstrom, 2008",
        "control": CONTROL,
        "metrics": {metric: metric_figures(arms) for metric, arms in values.items()},
    }


def metric_figures(arms: dict[str, np.ndarray]) -> dict[str, object]:
    """Totals of every arm and comparisons with the control."""
    return {
        "arms": {arm: arm_figures(values) for arm, values in arms.items()},
        "comparisons": {arm: comparison(arms[CONTROL], arms[arm]) for arm in TREATMENTS},
    }


def arm_figures(values: np.ndarray) -> dict[str, float | int]:
    """Counts, and totals in whole hundredths of the unit, which are exact."""
    hundredths = [round(value * CENT) for value in values]
    return {
        "units": len(hundredths),
        "hundredths": sum(hundredths),
        "squared_hundredths": sum(value * value for value in hundredths),
        "mean": float(values.mean()),
        "std_err": float(stats.sem(values)),
    }


def comparison(control: np.ndarray, treated: np.ndarray) -> dict[str, float]:
    """Welch's test; the interval of the lift by inverting that test numerically."""
    welch = stats.ttest_ind(treated, control, equal_var=False)
    difference = welch.confidence_interval(0.95)
    lift = treated.mean() / control.mean() - 1
    low, high = inverted(control, treated, float(stats.t.ppf(0.975, welch.df)))
    return {
        "difference": float(treated.mean() - control.mean()),
        "difference_low": float(difference.low),
        "difference_high": float(difference.high),
        "lift": float(lift),
        "lift_low": low,
        "lift_high": high,
        "p_value": float(welch.pvalue),
        "degrees_of_freedom": float(welch.df),
    }


def inverted(control: np.ndarray, treated: np.ndarray, critical: float) -> tuple[float, float]:
    """The lifts r at which mean(treated) - (1 + r) mean(control) is just `critical` errors."""
    lift = treated.mean() / control.mean() - 1

    def excess(side: float) -> Callable[[float], float]:
        def beyond(r: float) -> float:
            error = np.hypot(stats.sem(treated), (1 + r) * stats.sem(control))
            deviation = treated.mean() - (1 + r) * control.mean()
            return float(side * deviation / error - critical)

        return beyond

    low = optimize.brentq(excess(1.0), lift - 5, lift, xtol=1e-15, rtol=1e-14)
    high = optimize.brentq(excess(-1.0), lift, lift + 20, xtol=1e-15, rtol=1e-14)
    return float(low), float(high)


if __name__ == "__main__":
    print(json.dumps(figures(Path(sys.argv[1])), indent=1))
