"""Promises 1, 2, 5 and 9: one look at a planned end, adjusted or not, and moments by difference."""

from collections.abc import Callable, Iterator
from functools import lru_cache, partial

import numpy as np
from scipy import stats
from touchstone_statistics.adjust import Adjusted, adjust
from touchstone_statistics.cluster import Sums, by_cluster
from touchstone_statistics.contrast import Contrast
from touchstone_statistics.estimand import Estimate, Mean, Ratio, estimate
from touchstone_statistics.gaps import FloatArray
from touchstone_statistics.inference import Fixed, Reading
from touchstone_statistics.interval import Interval, Side
from touchstone_statistics.margins import not_worse
from touchstone_statistics.moments import Moments
from touchstone_statistics.proportions import Proportions
from touchstone_statistics.quantile import QuantileCounts, quantile_estimate, ranks
from touchstone_statistics.strata import poststratify
from touchstone_statistics.updating import add, grouped, remove, replace

from tests.calibration.promises import Promise

ALPHA = 0.05
UNITS = 1000
CHUNK = 250
LIFT = 0.2
Draw = Callable[[np.random.Generator, int], Contrast]
"""Contrasts of so many independent experiments, with one element each."""


def contrasts(draw: Draw, repetitions: int, seed: int) -> Iterator[Contrast]:
    """Experiments in chunks, so that memory stays small."""
    rng = np.random.default_rng(seed)
    for start in range(0, repetitions, CHUNK):
        yield draw(rng, min(CHUNK, repetitions - start))


@lru_cache(maxsize=2)
def p_values(
    draw: Draw, repetitions: int, seed: int = 1, side: Side = Side.TWO_SIDED
) -> FloatArray:
    """P-values of independent experiments."""
    readings = [Fixed(ALPHA, side).read(c) for c in contrasts(draw, repetitions, seed)]
    return np.concatenate([np.ravel(reading.p_value) for reading in readings])


def rejected(draw: Draw, repetitions: int) -> float:
    return float(np.mean(p_values(draw, repetitions) < ALPHA))


def uniform(draw: Draw, repetitions: int) -> float:
    """P-value of Kolmogorov and Smirnov that the p-values are uniform."""
    return float(stats.kstest(p_values(draw, repetitions), "uniform").pvalue)


def units(sample: Callable[[np.random.Generator, tuple[int, int]], FloatArray]) -> Draw:
    """A/A tests on the mean of one value a unit."""

    def draw(rng: np.random.Generator, trials: int) -> Contrast:
        arms = [
            estimate(
                Moments.from_rows(sample(rng, (trials, UNITS))[..., None].astype(float)), Mean(0)
            )
            for _ in range(2)
        ]
        return Contrast(arms[0], arms[1])

    return draw


def revenue(rng: np.random.Generator, shape: tuple[int, int]) -> FloatArray:
    """A tenth of the units buy, for lognormal amounts."""
    return (rng.random(shape) < 0.1) * rng.lognormal(3, 0.8, shape)


def sessions(rng: np.random.Generator, trials: int) -> FloatArray:
    """Orders and visits of a period and of the one before: trials + (units, 4)."""
    taste = rng.gamma(4, 0.25, (trials, UNITS))
    visits = [rng.poisson(5, (trials, UNITS)) + 1.0 for _ in range(2)]
    orders = [rng.poisson(v * taste) for v in visits]
    return np.stack([orders[0], visits[0], orders[1], visits[1]], axis=-1).astype(float)


def ratio(rng: np.random.Generator, trials: int) -> Contrast:
    arms = [estimate(Moments.from_rows(sessions(rng, trials)), Ratio(0, 1)) for _ in range(2)]
    return Contrast(arms[0], arms[1])


def adjusted_ratio(rng: np.random.Generator, trials: int) -> Contrast:
    moments = Moments.from_rows(np.stack([sessions(rng, trials) for _ in range(2)], axis=1))
    return first(adjust(moments, Ratio(0, 1), [Ratio(2, 3)]).joint.contrast(0))


def first(contrast: Contrast) -> Contrast:
    """A contrast without its axis of treatments, of which it has one."""
    covariance = np.asarray(contrast.covariance)[..., 0]
    return Contrast(contrast.control[..., 0], contrast.treatment[..., 0], 0.0, covariance)


def median(rng: np.random.Generator, trials: int) -> Contrast:
    place = ranks(UNITS, 0.5)
    arms: list[Estimate] = []
    for _ in range(2):
        ordered = np.sort(rng.lognormal(size=(trials, UNITS)), axis=1)
        low, centre, high = (ordered[:, int(r) - 1] for r in (place.low, place.centre, place.high))
        counts = QuantileCounts(np.full(trials, float(UNITS)), low, centre, high)
        arms.append(quantile_estimate(counts, 0.5))
    return Contrast(arms[0], arms[1])


def clusters(rng: np.random.Generator, trials: int) -> Contrast:
    """Two hundred clusters of ten units or so that are alike within a cluster."""
    size = np.asarray(rng.poisson(10, (trials, 200)) + 1, dtype=np.float64)
    total = size * rng.normal(10, 1, size.shape) + np.sqrt(size) * rng.normal(0, 2, size.shape)
    arms = by_cluster(Sums(total, size, np.arange(200) % 2, np.arange(200)), 2)
    return Contrast(arms[:, 0], arms[:, 1])


def strata(rng: np.random.Generator, trials: int) -> Contrast:
    """Three strata at different levels; units fall into them and into the arms by chance."""
    chances = np.outer([0.5, 0.3, 0.2], [0.5, 0.5]).ravel()
    sizes = rng.multinomial(2 * UNITS, chances, trials).reshape(-1, 3, 2).astype(float)
    levels = np.array([[10.0], [20.0], [40.0]])
    mean = levels + rng.normal(0, 5, sizes.shape) / np.sqrt(sizes)
    squares = 25 * rng.chisquare(sizes - 1)
    moments = Moments(sizes, mean[..., None], squares[..., None, None])
    return first(poststratify(moments, Mean(0)).joint.contrast(0))


def at_the_margin(rng: np.random.Generator, trials: int) -> Contrast:
    """A conversion rate that is worse by exactly the margin of a tenth."""
    return not_worse(rates(0.2, UNITS, -0.1)(rng, trials), 0.1)


def non_inferior(repetitions: int) -> float:
    return float(np.mean(p_values(at_the_margin, repetitions, 3, Side.GREATER) < ALPHA))


def rates(rate: float, count: int, lift: float) -> Draw:
    """Conversion rates of two arms with a true lift."""

    def draw(rng: np.random.Generator, trials: int) -> Contrast:
        arms = []
        for chance in (rate, rate * (1 + lift)):
            share = rng.binomial(count, chance, trials) / count
            spread = count * share * (1 - share)
            moments = Moments.of(np.full(trials, count), share[:, None], spread[:, None, None])
            arms.append(estimate(moments, Mean(0)))
        return Contrast(arms[0], arms[1])

    return draw


def missed(draw: Draw, lift: float, side: Side, small: bool, repetitions: int) -> float:
    """Share of intervals that lie above the lift (GREATER), below it (LESS), or either."""
    inference = Proportions(ALPHA, below=np.inf) if small else Fixed(ALPHA)
    found = [beyond(inference.read(c), lift, side) for c in contrasts(draw, repetitions, 2)]
    return float(np.mean(np.concatenate(found)))


def beyond(reading: Reading, lift: float, side: Side) -> np.ndarray:
    interval: Interval = reading.lift
    if side is Side.TWO_SIDED:
        return np.asarray(interval.excludes(lift))
    return np.asarray(interval.low > lift if side is Side.GREATER else interval.high < lift)


def adjusted(rho: float, per_arm: bool, repetitions: int) -> Iterator[Adjusted]:
    """Experiments with an effect of 1 whose covariate has correlation rho with the metric.

    The part of the metric that the covariate does not explain is skewed.
    """
    rng = np.random.default_rng(5)
    for start in range(0, repetitions, CHUNK):
        shape = (min(CHUNK, repetitions - start), 2, 200)
        before, rest = rng.normal(size=shape), rng.exponential(size=shape)
        metric = rho * before + np.sqrt(1 - rho**2) * rest
        metric[:, 1] += 1.0
        yield adjust(
            Moments.from_rows(np.stack([metric, before], axis=-1)), Mean(0), [Mean(1)], per_arm
        )


def bias(per_arm: bool, repetitions: int) -> float:
    """Mean error of the adjusted difference in its own standard errors."""
    found = [a.joint.contrast(0).difference for a in adjusted(0.7, per_arm, repetitions)]
    error = np.concatenate(found) - 1.0
    return float(error.mean() / error.std() * np.sqrt(error.size))


def width(rho: float, per_arm: bool, repetitions: int) -> float:
    """Mean width of the adjusted interval over that of the plain one and sqrt(1 - rho^2)."""
    shares = []
    for one in adjusted(rho, per_arm, repetitions):
        plain = Contrast(one.plain[:, :1], one.plain[:, 1:])
        after, before = (Fixed(ALPHA).read(c).difference for c in (one.joint.contrast(0), plain))
        shares.append((after.high - after.low) / (before.high - before.low))
    return float(np.concatenate(shares).mean() / np.sqrt(1 - rho**2))


def worst_drift(repetitions: int) -> float:
    """Largest error of moments after late, changed, moved and deleted units, against a rebuild.

    Relative to the square of the largest value times the units, over many shuffles of the order.
    """
    rng = np.random.default_rng(9)
    return max(_drift(rng) for _ in range(max(repetitions // 200, 10)))


def _drift(rng: np.random.Generator) -> float:
    count, batch = 400, (2, 3)
    values = rng.lognormal(0, 2, (count, 2)) + rng.choice([0.0, 1e3])
    cells = rng.integers(0, 6, count)
    order = rng.permutation(count)
    moments = Moments.empty(batch, 2)
    for part in np.array_split(order, 20):
        moments = add(moments, values[part], cells[part])
        late = rng.choice(order, 5, replace=False)
        late = late[np.isin(late, order[: np.flatnonzero(order == part[-1])[0] + 1])]
        fresh = values[late] * rng.uniform(0.5, 2.0, (late.size, 1))
        moments = replace(moments, values[late], fresh, cells[late])
        moved = rng.integers(0, 6, late.size)
        moments = add(remove(moments, fresh, cells[late]), fresh, moved)
        values[late], cells[late] = fresh, moved
    rebuilt = grouped(values, cells, batch)
    size = np.abs(values).max()
    scale = size**2 * rebuilt.units[..., None, None]
    apart = np.abs(moments.co_moment - rebuilt.co_moment) / scale
    return float(max(apart.max(), np.abs(moments.mean - rebuilt.mean).max() / size))


A_A: dict[str, Draw] = {
    "a normal mean": units(lambda rng, shape: rng.normal(5, 2, shape)),
    "a conversion rate of 10 %": units(lambda rng, shape: (rng.random(shape) < 0.1).astype(float)),
    "a count (Poisson, mean 3)": units(lambda rng, shape: rng.poisson(3, shape).astype(float)),
    "revenue (10 % buy, lognormal)": units(revenue),
    "a ratio": ratio,
    "a ratio adjusted by a ratio": adjusted_ratio,
    "a median": median,
    "a mean over 200 clusters": clusters,
    "a mean over 3 strata": strata,
}
SMOOTH = [name for name in A_A if "conversion" not in name]
"""A rate has too few values for its p-values to be uniform."""
FIELLER = (("10 %", 0.1, 1000, LIFT), ("1 %", 0.01, 2000, 0.0), ("1 %", 0.01, 2000, LIFT))
"""Rates with at least twenty conversions expected in each arm, and the true lift."""


def _intervals() -> Iterator[Promise]:
    for text, rate, count, lift in FIELLER:
        draw = rates(rate, count, lift)
        what = f"Fieller's interval misses a lift of {lift * 100:g} % of a rate of {text}"
        what = f"{what}, {count:,} units"
        for side, where, low, high in (
            (Side.TWO_SIDED, "", 0.045, 0.055),
            (Side.GREATER, ", above", 0.02, 0.03),
            (Side.LESS, ", below", 0.02, 0.03),
        ):
            check = partial(missed, draw, lift, side, False)
            yield Promise(2, what + where, low, high, check)
    for text, rate, count in (("2 %", 0.02, 250), ("0.5 %", 0.005, 1000)):
        what = f"The score interval misses a lift of 50 % of a rate of {text}, {count:,} units"
        check = partial(missed, rates(rate, count, 0.5), 0.5, Side.TWO_SIDED, True)
        yield Promise(2, what, 0.03, 0.06, check)


def _one_look() -> Iterator[Promise]:
    for name, draw in A_A.items():
        what = f"A/A tests of {name} rejected at 5 %, 1,000 units an arm"
        yield Promise(1, what, 0.045, 0.055, partial(rejected, draw))
        if name in SMOOTH:
            what = f"Uniform p-values of {name}, Kolmogorov-Smirnov p"
            yield Promise(1, what, 0.001, 1.0, partial(uniform, draw), share=False)
    what = "Rates worse by exactly the margin called non-inferior at 5 %"
    yield Promise(1, what, 0.045, 0.055, non_inferior)


def _adjustments() -> Iterator[Promise]:
    for name, per_arm in (("CUPED", False), ("CUPED with slopes of each arm", True)):
        what = f"Bias of {name} in standard errors"
        yield Promise(5, what, -2.0, 2.0, partial(bias, per_arm), share=False)
    for rho in (0.5, 0.9):
        what = f"Width of the CUPED interval over sqrt(1 - rho^2), correlation {rho}"
        yield Promise(5, what, 0.98, 1.02, partial(width, rho, False), share=False)


DRIFT = "Moments by difference against a rebuild under shuffles, relative error"
PROMISES = [
    *_one_look(),
    *_intervals(),
    *_adjustments(),
    Promise(9, DRIFT, 0.0, 1e-10, worst_drift, share=False),
]
