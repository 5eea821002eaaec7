"""All rule models, the order-1 chain and the simplified Shapley game in one pass over many touches.

    python -m tests.bench.attribution_pass TOUCHES

Journeys come in shards, as those of disjoint units do; the statistics of a shard are added to those
before, and the models are answered from the sum. Making the journeys is not measured. Prints the
processor seconds and the peak of memory as JSON.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from dataclasses import dataclass

import numpy as np

from services.attribution.domain.channel_sets import SetHistogram, count_sets
from services.attribution.domain.credits import removal_share_credits
from services.attribution.domain.events import Touches
from services.attribution.domain.journey_statistics import JourneyStatistics, measure
from services.attribution.domain.journeys import BEGINNING_OF_TIME_US, Journeys
from services.attribution.domain.milestones import JourneyMilestones
from services.attribution.domain.models import (
    ByPosition,
    Custom,
    FirstTouch,
    LastNonDirect,
    LastTouch,
    Linear,
    LinearOver,
    Markov,
    Model,
    Participation,
    Position,
    RankDecay,
    SameTouch,
    TimeDecay,
    inverse_j_shaped,
    j_shaped,
    w_shaped,
)
from services.attribution.domain.shapley.additive import simplified

CHANNELS = tuple(f"channel_{number:02d}" for number in range(15))
SHARD_JOURNEYS = 250_000
W_SHAPED = w_shaped("lead", "opportunity")
MODELS: tuple[Model, ...] = (
    FirstTouch(),
    LastTouch(),
    LastNonDirect(frozenset({CHANNELS[3]})),
    Linear(),
    Linear(LinearOver.CHANNELS),
    Linear(LinearOver.RUNS),
    Position(),
    j_shaped(),
    inverse_j_shaped(),
    W_SHAPED,
    TimeDecay(),
    RankDecay(),
    Custom(50, 10, 40),
    ByPosition((3.0, 2.0, 1.0), beyond=1.0),
    Participation(),
    SameTouch(),
    Markov(),
)


@dataclass(frozen=True, slots=True)
class Measured:
    """What the pass took, and over how many touches and journeys."""

    touches: int
    journeys: int
    cpu_s: float
    peak_mb: float


def one_pass(touches: int) -> Measured:
    """The statistics of so many touches, shard by shard, and the answers of all models."""
    generator = np.random.default_rng(11)
    sums: JourneyStatistics | None = None
    sets: SetHistogram | None = None
    seen, cpu_s = 0, 0.0
    while seen < touches:
        made, journeys, milestones = shard(generator)
        start = time.process_time()
        own = measure(made, journeys, MODELS, BEGINNING_OF_TIME_US, milestones)
        own_sets = count_sets(journeys)
        sums = own if sums is None else sums + own
        sets = own_sets if sets is None else sets + own_sets
        cpu_s += time.process_time() - start
        seen += len(journeys.codes)
    assert sums is not None
    assert sets is not None
    start = time.process_time()
    require_whole(sums, sets)
    cpu_s += time.process_time() - start
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return Measured(seen, sums.counts.journeys, cpu_s, peak_mb)


def require_whole(sums: JourneyStatistics, sets: SetHistogram) -> None:
    """Raise unless every additive model hands out every conversion once."""
    converting = sums.counts.converting
    effects = sums.removal_effects(Markov())
    handed = {
        "order 1": removal_share_credits(effects, converting, sums.counts.value).conversions.sum(),
        "Shapley": simplified(sets).conversions.sum(),
    }
    for model, credits_ in sums.rule_credits.items():
        if not isinstance(model, Participation | SameTouch):
            handed[str(model)] = credits_.conversions.sum()
    for name, total in handed.items():
        if not np.isclose(total, converting, rtol=1e-9, atol=0):
            raise AssertionError(f"{name} hands out {total} of {converting} conversions")


def shard(generator: np.random.Generator) -> tuple[Touches, Journeys, JourneyMilestones]:
    """Journeys of 1 + Poisson(3) touches, of which one in twenty converts."""
    lengths = 1 + generator.poisson(3, SHARD_JOURNEYS)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    total, converting = int(offsets[-1]), SHARD_JOURNEYS // 20
    shares = np.arange(len(CHANNELS), 0, -1) / np.arange(len(CHANNELS) + 1).sum()
    everything = np.arange(total)
    made = Touches(
        channels=CHANNELS,
        units=np.repeat(np.arange(SHARD_JOURNEYS), lengths),
        times=everything * 900_000_000,
        codes=generator.choice(len(CHANNELS), total, p=shares).astype(np.int32),
        costs=np.where(everything % 3 == 0, np.nan, 0.25),
    )
    journeys = Journeys(
        channels=CHANNELS,
        offsets=offsets,
        codes=made.codes,
        times=made.times,
        touch_rows=everything,
        units=np.arange(SHARD_JOURNEYS),
        converting=converting,
        conversion_rows=np.arange(converting),
        conversion_times=made.times[offsets[1 : converting + 1] - 1],
        values=generator.integers(1, 500, converting) / 4,
        direct_rows=np.zeros(0, dtype=np.int64),
        direct_values=np.zeros(0),
    )
    places = (lengths[:converting, None] - 1) // np.array([[2, 1]])
    return made, journeys, JourneyMilestones(W_SHAPED.names, places)


def main() -> None:
    """See the module."""
    found = one_pass(int(sys.argv[1]))
    print(
        json.dumps(
            {
                "touches": found.touches,
                "journeys": found.journeys,
                "cpu_s": round(found.cpu_s, 3),
                "peak_mb": round(found.peak_mb),
            }
        )
    )


if __name__ == "__main__":
    main()
