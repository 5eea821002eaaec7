"""The game of a fitted model: what it predicts with and without a channel.

Source: Dalessandro, Perlich, Stitelman, Provost (2012), section 4: V_k is the sum over S without k
of w(S) (E[Y | S and k] - E[Y | S]) with the Shapley weights w. Up to `EXACT_PLAYERS` channels the
sum is taken whole. Beyond, it is the mean over random orders of the channels (Castro, Gomez,
Tejada 2009), each with its reverse (antithetic pairs: Mitchell, Cooper, Frank, Holmes 2022), and
the standard error is that of the mean of independent pairs.

Estimand: the Shapley value of the model. It is causal only where the model is.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from services.attribution.domain.arrays import Flags, Floats, Integers
from services.attribution.domain.shapley.lattice import by_player, equal_parts
from shared.errors import invalid

EXACT_PLAYERS = 12
MAX_PAIRS = 100_000
CELLS_AT_ONCE = 1 << 22

Prediction = Callable[[Flags], Floats]
"""From sets of channels (B, C) to the probability of conversion of each (B,)."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How many antithetic pairs of random orders to take, and their seed."""

    pairs: int = 500
    seed: int = 0

    def __post_init__(self) -> None:
        if not 2 <= self.pairs <= MAX_PAIRS:
            raise invalid("shapley.pairs", self.pairs, f"2 to {MAX_PAIRS}")
        if self.seed < 0:
            raise invalid("shapley.seed", self.seed, "a whole number of at least 0")


@dataclass(frozen=True, slots=True)
class LearnedValues:
    """Shapley values (C,) of a model, and their standard errors: 0 where the sum was whole.

    The values sum to `everyone` - `nobody`, the predictions with all channels and with none.
    """

    values: Floats
    std_err: Floats
    nobody: float
    everyone: float
    exact: bool

    @property
    def shares(self) -> Floats | None:
        """The values over their sum; None where they do not sum to more than 0."""
        total = self.values.sum()
        return self.values / total if total > 0 else None


def learned_values(predict: Prediction, channels: int, sampling: Sampling) -> LearnedValues:
    """Return the Shapley value of each of `channels` channels in the game of `predict`."""
    ends = predict(np.array([[False] * channels, [True] * channels]))
    if not np.isfinite(ends).all():
        raise invalid("shapley.prediction", ends.tolist(), "finite predictions")
    exact = channels <= EXACT_PLAYERS
    if exact:
        values, std_err = _whole(predict, channels), np.zeros(channels)
    else:
        values, std_err = _sampled(predict, channels, sampling)
    return LearnedValues(values, std_err, float(ends[0]), float(ends[1]), exact)


def _whole(predict: Prediction, channels: int) -> Floats:
    sets = np.arange(1 << channels, dtype=np.int64)
    members = (sets[:, None] >> np.arange(channels) & 1).astype(np.bool_)
    worth = predict(members)
    return by_player(equal_parts(worth - worth[0]))


def _sampled(predict: Prediction, channels: int, sampling: Sampling) -> tuple[Floats, Floats]:
    generator = np.random.default_rng(np.random.PCG64(sampling.seed))
    at_once = max(1, CELLS_AT_ONCE // (2 * channels * (channels + 1)))
    total, squares = np.zeros(channels), np.zeros(channels)
    for begin in range(0, sampling.pairs, at_once):
        pairs = min(at_once, sampling.pairs - begin)
        orders = np.argsort(generator.random((pairs, channels)), axis=1, kind="stable")
        gains = (_gains(predict, orders) + _gains(predict, orders[:, ::-1])) / 2
        total += gains.sum(axis=0)
        squares += np.square(gains).sum(axis=0)
    mean = total / sampling.pairs
    variance = np.maximum(squares / sampling.pairs - np.square(mean), 0.0)
    std_err: Floats = np.sqrt(variance / (sampling.pairs - 1))
    return mean, std_err


def _gains(predict: Prediction, orders: Integers) -> Floats:
    """Return what each channel adds when it joins those before it, of shape (orders, C)."""
    count, channels = orders.shape
    place = np.argsort(orders, axis=1, kind="stable")
    members = place[:, None, :] < np.arange(channels + 1)[None, :, None]
    worth = predict(members.reshape(-1, channels)).reshape(count, channels + 1)
    gains: Floats = np.take_along_axis(np.diff(worth, axis=1), place, axis=1)
    return gains
