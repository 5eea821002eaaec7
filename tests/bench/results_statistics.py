"""All statistics of a whole experiment from stored moments, beside gbstats on the same comparisons.

50 metrics, 3 variants, 20 slices: 2,000 comparisons. 20 metrics are shares of units, 15 are counts
of events, 15 are amounts, and all have a covariate. Each comparison is read by every method that is
for its kind of metric, from moments to intervals.
"""

import json
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from touchstone_statistics.adjust import adjust
from touchstone_statistics.anytime import Anytime
from touchstone_statistics.bayes import Bayes, LiftPrior
from touchstone_statistics.best import best_arm
from touchstone_statistics.beta import BetaPosterior
from touchstone_statistics.boundaries import Ledger, Plan, advance
from touchstone_statistics.contrast import Contrast
from touchstone_statistics.estimand import Mean
from touchstone_statistics.family import Correction, Method, correct
from touchstone_statistics.gamma import GammaPosterior
from touchstone_statistics.gaps import FloatArray
from touchstone_statistics.hybrid import Hybrid
from touchstone_statistics.inference import Fixed
from touchstone_statistics.moments import Moments
from touchstone_statistics.rates import read_rates
from touchstone_statistics.sequential import GroupSequential

from tests.bench.report import BenchRow, compared, missing, peer_environment

AREA = "results"
PEER, REQUIREMENTS = "gbstats 0.8.0", ["gbstats==0.8.0", "numpy<2"]
REPEATS = 15
METRICS, SLICES, ARMS = 50, 20, 3
SHARES, COUNTS = slice(0, 20), slice(20, 35)
COMPARISONS = METRICS * SLICES * (ARMS - 1)
PLANNED_UNITS = 400_000
FEWEST = 100
"""Conversions of a cell. Below it beta posteriors are compared by quadrature, at about half a
millisecond each; a row of its own has such cells."""


@dataclass(frozen=True)
class Experiment:
    """Moments of value and covariate by metric, slice and arm; totals of the value."""

    moments: Moments
    totals: FloatArray


def rows() -> list[BenchRow]:
    """All methods against the budget, and against gbstats's three readings of each comparison."""
    with np.errstate(all="ignore"):
        of = experiment()
        ours_ms = 1e3 * sum(best_of(method) for method in methods(of).values())
        few_ms = 1e3 * sum(best_of(method, 3) for method in methods(experiment(3)).values())
    title = f"all methods, {METRICS} metrics x {ARMS} variants x {SLICES} slices"
    small = f"{title}, down to 3 conversions a cell"
    budget = "a budget of 10 ms"
    return [
        _of_budget(title, ours_ms, budget, "<= 1"),
        _of_budget(small, few_ms, budget, ""),
        beside_gbstats(title, ours_ms, of),
    ]


def _of_budget(title: str, ours_ms: float, name: str, goal: str) -> BenchRow:
    return compared(
        AREA, title, ours=ours_ms, reference=10.0, reference_name=name, unit="ms", goal=goal
    )


def beside_gbstats(title: str, ours_ms: float, of: Experiment) -> BenchRow:
    """Three of its readings a comparison, beside all of ours."""
    python, reason = peer_environment("gbstats", REQUIREMENTS)
    name = f"{PEER}: relative test, sequential test and Bayesian effect, with a covariate"
    if python is not None:
        done = subprocess.run(
            [str(python), str(Path(__file__).with_name("results_peers.py"))],
            input=json.dumps({"adjusted": pairs(of)}),
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        if done.returncode == 0:
            theirs_ms = 1e3 * float(json.loads(done.stdout)["seconds"])
            return compared(
                AREA,
                title,
                ours=ours_ms,
                reference=theirs_ms,
                reference_name=name,
                unit="ms",
                goal="<= 0.01",
            )
        lines = done.stderr.strip().splitlines()
        reason = lines[-1] if lines else f"status {done.returncode}"
    return missing(
        AREA, title, ours=ours_ms, reference_name=name, unit="ms", goal="<= 0.01", reason=reason
    )


def pairs(of: Experiment) -> list[list[list[float]]]:
    """The numbers of control and treatment of each comparison, as peers want them."""
    moments = of.moments
    spread = moments.covariance
    numbers = [moments.units, moments.mean[..., 0], spread[..., 0, 0]]
    numbers += [moments.mean[..., 1], spread[..., 1, 1], spread[..., 0, 1]]
    arms = np.stack(numbers, axis=-1).reshape(-1, ARMS, len(numbers))
    both = [arms[:, [0, treatment]] for treatment in range(1, ARMS)]
    found: list[list[list[float]]] = np.concatenate(both).tolist()
    return found


def best_of(method: Callable[[], object], repeats: int = REPEATS) -> float:
    """The shortest of several runs in seconds."""
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        method()
        best = min(best, time.perf_counter() - start)
    return best


def experiment(fewest: int = FEWEST) -> Experiment:
    """Slices of 1,000 to 100,000 units an arm; `fewest` conversions and events in any cell."""
    rng = np.random.default_rng(1)
    shape = (METRICS, SLICES, ARMS)
    units = np.broadcast_to(rng.integers(1_000, 100_000, (1, *shape[1:])), shape).astype(float)
    level = np.empty((METRICS, 1, 1))
    level[SHARES] = rng.uniform(0.02, 0.5, (20, 1, 1))
    level[COUNTS] = rng.uniform(0.1, 5.0, (15, 1, 1))
    level[35:] = rng.lognormal(2, 1, (15, 1, 1))
    moved = level * np.exp(rng.normal(0, 0.02, shape))
    totals = np.clip(np.rint(moved * units), fewest, None)
    totals[SHARES] = np.minimum(totals[SHARES], units[SHARES] - fewest)
    mean = totals / units
    variance = mean * np.exp(rng.normal(0, 0.2, shape))
    variance[SHARES] = (mean * (1 - mean))[SHARES]
    variance[35:] = (3 * mean**2)[35:]
    spread = np.empty((*shape, 2, 2))
    spread[..., 0, 0], spread[..., 1, 1] = variance, 1.0
    spread[..., 0, 1] = spread[..., 1, 0] = 0.4 * np.sqrt(variance)
    columns = np.stack([mean, rng.normal(1, 0.01, shape)], axis=-1)
    return Experiment(Moments.of(units, columns, spread * (units[..., None, None] - 1)), totals)


def methods(of: Experiment) -> dict[str, Callable[[], object]]:
    """Each method by its name, over all comparisons that it is for."""
    made: dict[str, Contrast] = {}

    def contrast() -> Contrast:
        # A contrast keeps what it computed: each method is given one of its own.
        joint = adjust(of.moments, Mean(0), [Mean(1)]).joint
        made["contrast"] = joint.contrast(0)
        return made["contrast"]

    contrast()
    arms = adjust(of.moments, Mean(0), [Mean(1)]).joint.arms
    plan = Plan(float(PLANNED_UNITS))
    ledger = advance(plan, advance(plan, Ledger(), PLANNED_UNITS / 4), PLANNED_UNITS / 2)
    beta = BetaPosterior.of(of.totals[SHARES], of.moments.units[SHARES])
    gamma = GammaPosterior.of(of.totals[COUNTS], of.moments.units[COUNTS])
    found = Fixed().read(made["contrast"])
    return {
        "estimates with a covariate": contrast,
        "Welch and Fieller": lambda: Fixed().read(made["contrast"]),
        "anytime-valid": lambda: Anytime().read(made["contrast"]),
        "group-sequential": lambda: GroupSequential(plan, ledger).read(made["contrast"]),
        "hybrid": lambda: Hybrid(PLANNED_UNITS / 2).read(made["contrast"]),
        "normal posterior": lambda: Bayes(LiftPrior()).read(made["contrast"]),
        "best of three": lambda: best_arm(arms, LiftPrior(), True),
        "beta posteriors": lambda: read_rates(beta[..., :1], beta[..., 1:]),
        "gamma posteriors": lambda: read_rates(gamma[..., :1], gamma[..., 1:]),
        "false discoveries": lambda: correct(
            found.p_value.ravel(), found.gap.ravel(), Correction(Method.BENJAMINI_HOCHBERG, 0.05)
        ),
    }
