"""Order-1 Markov attribution: exact removal effects by one factorisation.

Sources: Archak, Mirrokni, Muthukrishnan (2010), "Mining advertiser-specific user behavior using
adfactors" (the chain and the effect of removing a state); Anderl, Becker, von Wangenheim,
Schumann (2016), "Mapping the customer journey" (its use for channels, with conversion and null as
absorbing states).

Estimand: the share of conversions of the fitted chain that pass through a channel. Assumption:
the next step depends on the present channel alone. It is descriptive: no causal effect is
identified.

Legend: W_ij counts steps from i to j; Q and b are W divided by its row sums, towards channels and
towards conversion; N = (I - Q)^-1 are expected visits; p = N b is the probability of conversion
from each state, p_0 from the start. Consecutive identical channels count as one visit.
"""

from dataclasses import dataclass

import numpy as np

from services.attribution.domain.arrays import Codes, Flags, Floats, Integers
from services.attribution.domain.journeys import Journeys
from services.attribution.domain.markov.effects import RemovalEffects
from shared.errors import invalid


@dataclass(frozen=True, slots=True)
class TransitionCounts:
    """Additive counts of the steps of some journeys over C channels.

    `start`, `converted` and `null` have shape (C,): journeys that begin at a channel, end there in
    a conversion, and end there without one. `steps` has shape (C, C), from row to column, with a
    zero diagonal. `value` (C,) sums the value of the conversions that end at a channel.
    """

    start: Integers
    steps: Integers
    converted: Integers
    null: Integers
    value: Floats

    def __add__(self, other: "TransitionCounts") -> "TransitionCounts":
        self._require_alike(other)
        return TransitionCounts(
            start=self.start + other.start,
            steps=self.steps + other.steps,
            converted=self.converted + other.converted,
            null=self.null + other.null,
            value=self.value + other.value,
        )

    def __sub__(self, other: "TransitionCounts") -> "TransitionCounts":
        self._require_alike(other)
        converted = self.converted - other.converted
        return TransitionCounts(
            start=self.start - other.start,
            steps=self.steps - other.steps,
            converted=converted,
            null=self.null - other.null,
            value=np.where(converted > 0, self.value - other.value, 0.0),
        )

    def _require_alike(self, other: "TransitionCounts") -> None:
        if self.start.shape != other.start.shape:
            raise invalid(
                "channels",
                f"{len(self.start)} and {len(other.start)} channels",
                "counts over the same channels",
            )


def count_transitions(journeys: Journeys) -> tuple[TransitionCounts, TransitionCounts]:
    """Count the steps of the converting journeys and, apart from them, of the others."""
    cut = int(journeys.offsets[journeys.converting])
    converting = _count(
        journeys.codes[:cut], journeys.converting_offsets, len(journeys.channels), journeys.values
    )
    others = _count(
        journeys.codes[cut:],
        journeys.offsets[journeys.converting :] - cut,
        len(journeys.channels),
        None,
    )
    return converting, others


def removal_effects(counts: TransitionCounts) -> RemovalEffects:
    """Return RE_c = N_0c p_c / (N_cc p_0) for conversions, and the same for value.

    N_0c / N_cc is the probability to visit c at all, so RE_c is the probability that a converting
    walk passes c. The states kept all reach an end, hence I - Q has an inverse.
    """
    channels = len(counts.start)
    kept = _on_a_path(counts)
    total = counts.start.sum()
    if not kept.any() or not total:
        return RemovalEffects(np.zeros(channels), None, 0.0, ~kept)
    leaving = (counts.steps.sum(axis=1) + counts.converted + counts.null)[kept].astype(np.float64)
    Q = counts.steps[np.ix_(kept, kept)] / leaving[:, None]
    N = np.linalg.inv(np.eye(len(leaving)) - Q)
    alpha = counts.start[kept] / total
    visits = alpha @ N / np.diag(N)
    targets = np.stack([counts.converted[kept], counts.value[kept]], axis=1) / leaving[:, None]
    reached = N @ targets
    p_0, value_0 = (float(expected) for expected in alpha @ reached)
    effects = np.zeros(channels)
    if p_0 > 0:
        effects[kept] = np.clip(visits * reached[:, 0] / p_0, 0.0, 1.0)
    value_effects = None
    if value_0 > 0 and (counts.value >= 0).all():
        value_effects = np.zeros(channels)
        value_effects[kept] = np.clip(visits * reached[:, 1] / value_0, 0.0, 1.0)
    return RemovalEffects(effects, value_effects, p_0, ~kept)


def _count(
    codes: Codes, offsets: Integers, channels: int, values: Floats | None
) -> TransitionCounts:
    starts = np.bincount(codes[offsets[:-1]], minlength=channels)
    last = codes[offsets[1:] - 1]
    ends = np.bincount(last, minlength=channels)
    nothing = np.zeros(channels, dtype=np.int64)
    value: Floats = np.zeros(channels)
    if values is not None:
        value = np.bincount(last, weights=values, minlength=channels).astype(np.float64)
    return TransitionCounts(
        start=starts,
        steps=_steps(codes, offsets, channels),
        converted=nothing if values is None else ends,
        null=ends if values is None else nothing,
        value=value,
    )


def _steps(codes: Codes, offsets: Integers, channels: int) -> Integers:
    if not len(codes):
        return np.zeros((channels, channels), dtype=np.int64)
    pairs = codes[:-1].astype(np.int64) * channels + codes[1:]
    counts = np.bincount(pairs, minlength=channels * channels)
    # Taking back the pairs across journeys is cheaper than masking them out.
    seams = offsets[1:-1]
    across = codes[seams - 1].astype(np.int64) * channels + codes[seams]
    counts -= np.bincount(across, minlength=channels * channels)
    steps: Integers = counts.reshape(channels, channels)
    np.fill_diagonal(steps, 0)
    return steps


def _on_a_path(counts: TransitionCounts) -> Flags:
    """Return which channels can be reached from the start and can reach an end."""
    linked = counts.steps > 0
    forward = _closure(counts.start > 0, linked)
    backward = _closure((counts.converted > 0) | (counts.null > 0), linked.T)
    kept: Flags = forward & backward
    return kept


def _closure(seed: Flags, linked: Flags) -> Flags:
    reached = seed
    while True:
        grown: Flags = reached | linked[reached].any(axis=0)
        if (grown == reached).all():
            return reached
        reached = grown
