"""How far models disagree about the same journeys, and about which channels."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import scipy  # its statistics load when they are first used: they take most of a second

from services.attribution.domain.arrays import Floats
from shared.errors import invalid

SUM_TOLERANCE = 1e-6


@dataclass(frozen=True, slots=True)
class Disagreement:
    """The shares that two models give one channel."""

    channel: str
    left: float
    right: float

    @property
    def difference(self) -> float:
        """The share of the right model less that of the left one."""
        return self.right - self.left


@dataclass(frozen=True, slots=True)
class Divergence:
    """How two models differ over channels.

    `total_variation` is half the sum of absolute differences of shares: the part of all conversions
    that would have to be credited elsewhere to turn one into the other. `rank_correlation` is
    Spearman's (1904), with mean ranks for ties; None where a model gives all channels the same.
    `channels` are those that differ most, the largest difference first.
    """

    left: str
    right: str
    total_variation: float
    rank_correlation: float | None
    channels: tuple[Disagreement, ...]


def divergence_table(
    shares: Mapping[str, Floats], channels: tuple[str, ...], most: int = 3
) -> tuple[Divergence, ...]:
    """Compare every two models, in the order given; `shares` (C,) of a model sum to 1."""
    for model, share in shares.items():
        if len(share) != len(channels):
            raise invalid(f"shares of {model}", len(share), f"{len(channels)} channels")
        if not abs(float(share.sum()) - 1) <= SUM_TOLERANCE:
            raise invalid(f"shares of {model}", float(share.sum()), "shares that sum to 1")
    if most < 0:
        raise invalid("divergence.channels", most, "a whole number of at least 0")
    return tuple(_compared(pair, shares, channels, most) for pair in combinations(shares, 2))


def _compared(
    pair: tuple[str, str], shares: Mapping[str, Floats], channels: tuple[str, ...], most: int
) -> Divergence:
    left, right = (shares[model] for model in pair)
    apart = np.abs(right - left)
    return Divergence(
        left=pair[0],
        right=pair[1],
        total_variation=float(apart.sum() / 2),
        rank_correlation=_spearman(left, right),
        channels=tuple(
            Disagreement(channels[code], float(left[code]), float(right[code]))
            for code in np.argsort(-apart, kind="stable")[:most].tolist()
            if apart[code] > 0
        ),
    )


def _spearman(left: Floats, right: Floats) -> float | None:
    ranks = [scipy.stats.rankdata(share) - (len(share) + 1) / 2 for share in (left, right)]
    spread = np.sqrt((ranks[0] @ ranks[0]) * (ranks[1] @ ranks[1]))
    return float(ranks[0] @ ranks[1] / spread) if spread > 0 else None
