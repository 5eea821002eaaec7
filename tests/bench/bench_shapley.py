"""The Shapley games beside peers that play the same game, and the bootstrap of a million journeys.

Before a time is compared, the credits of every channel must agree to a billionth. Our times are of
the processor; a peer's are the lesser of the clock's and the processor's.
"""

from __future__ import annotations

import json
import math
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from services.attribution.domain.bootstrap.models import DrawnUnits, resample_models
from services.attribution.domain.bootstrap.resample import resample
from services.attribution.domain.bootstrap.tallies import tally_sets, tally_steps
from services.attribution.domain.bootstrap.weights import Resampling
from services.attribution.domain.channel_sets import count_sets
from services.attribution.domain.credits import ChannelCredits
from services.attribution.domain.journeys import Journeys
from services.attribution.domain.models import (
    FirstTouch,
    LastTouch,
    Linear,
    Markov,
    Model,
    Participation,
    Position,
    RankDecay,
    Shapley,
    TimeDecay,
)
from services.attribution.domain.shapley import Game
from services.attribution.domain.shapley.additive import simplified
from services.attribution.domain.shapley.rates import rate_game
from services.attribution.domain.unit_keys import keys_of_numbers
from tests.bench.report import BenchRow, compared, missing, peer_environment

AREA = "attribution"
CHANNELS = tuple(f"c{number:02d}" for number in range(15))
JOURNEYS = 1_000_000
AGREEMENT = 1e-9
REPLICATES = 200
MODELS: tuple[Model, ...] = (
    FirstTouch(),
    LastTouch(),
    Linear(),
    Position(),
    TimeDecay(),
    RankDecay(),
    Participation(),
    Markov(),
    Shapley(),
    Shapley(Game.EXACT_SET_RATE),
)


@dataclass(frozen=True, slots=True)
class Peer:
    """A program that plays a game too, how to get it, and how we play it."""

    name: str
    command: str
    requirements: tuple[str, ...]
    game: str
    ours: Callable[[Journeys], ChannelCredits]
    goal: str


PEERS = (
    Peer(
        "marketing-attribution-models 2.1.1",
        "mam",
        ("marketing-attribution-models==2.1.1",),
        "exact_set_rate",
        lambda journeys: rate_game(Game.EXACT_SET_RATE, count_sets(journeys)).credits,
        "<= 0.01",
    ),
    Peer(
        "shapley-attribution 2.1.0",
        "shapley_attribution",
        ("shapley-attribution==2.1.0", "matplotlib", "pyarrow"),
        "simplified",
        lambda journeys: simplified(count_sets(journeys)),
        "<= 1",
    ),
)


def run() -> list[BenchRow]:
    """Our Shapley beside each peer, and replicates beside one look at the codes."""
    rows = []
    for count in (JOURNEYS // 10, JOURNEYS):
        journeys = generate(count)
        with tempfile.TemporaryDirectory() as folder:
            write(journeys, Path(folder))
            rows += [beside(peer, journeys, Path(folder)) for peer in PEERS]
    return [*rows, *replicates(journeys)]


def generate(count: int) -> Journeys:
    """Journeys of 1 + Poisson(3) touches, of which one in twenty converts."""
    generator = np.random.default_rng(7)
    lengths = 1 + generator.poisson(3, count)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    shares = np.arange(len(CHANNELS), 0, -1) / np.arange(len(CHANNELS) + 1).sum()
    touches = np.arange(offsets[-1])
    converting = count // 20
    return Journeys(
        channels=CHANNELS,
        offsets=offsets,
        codes=generator.choice(len(CHANNELS), offsets[-1], p=shares).astype(np.int32),
        times=touches,
        touch_rows=touches,
        units=np.arange(count),
        converting=converting,
        conversion_rows=np.arange(converting),
        conversion_times=offsets[1 : converting + 1],
        values=np.ones(converting),
        direct_rows=np.zeros(0, dtype=np.int64),
        direct_values=np.zeros(0),
    )


def write(journeys: Journeys, folder: Path) -> None:
    """The touches as the peers read them."""
    lengths = np.diff(journeys.offsets)
    columns = {
        "journey": np.repeat(np.arange(len(journeys)), lengths),
        "time_us": journeys.times,
        "channel": np.array(CHANNELS)[journeys.codes],
        "converted": np.repeat(journeys.converted, lengths),
    }
    pq.write_table(pa.table(columns), folder / "touches.parquet")


def beside(peer: Peer, journeys: Journeys, folder: Path) -> BenchRow:
    """The row of one peer, missing where it cannot be had."""
    ours_s, found = fastest(lambda: peer.ours(journeys))
    name = f"Shapley ({peer.game}), {len(journeys):,} journeys"
    python, reason = peer_environment(peer.command, peer.requirements)
    theirs = None
    if python is not None:
        theirs, reason = ask(peer, python, folder)
    if theirs is None:
        return missing(
            AREA,
            name,
            ours=ours_s,
            reference_name=peer.name,
            unit="s",
            goal=peer.goal,
            reason=reason,
        )
    for channel, credit in zip(CHANNELS, found.conversions.tolist(), strict=True):
        if not math.isclose(theirs["totals"][channel], credit, rel_tol=AGREEMENT):
            raise AssertionError(
                f"{peer.name} credits {channel} {theirs['totals'][channel]}, we {credit}"
            )
    return compared(
        AREA,
        name,
        ours=ours_s,
        reference=theirs["seconds"],
        reference_name=peer.name,
        unit="s",
        goal=peer.goal,
    )


def ask(peer: Peer, python: Path, folder: Path) -> tuple[dict[str, Any] | None, str]:
    """What the peer measured in its own process, or None and why there is nothing."""
    script = Path(__file__).with_name("shapley_peers.py")
    command = [str(python), "-I", str(script), peer.command, str(folder)]
    try:
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=600)
    except subprocess.CalledProcessError as error:
        return None, error.stderr.strip().splitlines()[-1]
    except subprocess.TimeoutExpired as error:
        return None, str(error)
    measured: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return measured, ""


def replicates(journeys: Journeys) -> list[BenchRow]:
    """A replicate of statistics, and of all figures of models that need no more than tallies."""
    keys, resampling = keys_of_numbers(journeys.units), Resampling(REPLICATES)
    pass_s, _ = fastest(lambda: np.bincount(journeys.codes, minlength=len(CHANNELS)))
    taken = {}
    for name, tally in (("sets", tally_sets), ("order-1 steps", tally_steps)):
        table = tally(journeys)
        taken[name], _ = fastest(partial(resample, table.rows, keys, resampling), 1)
    drawn = DrawnUnits(resampling, keys, most_s=math.inf)
    shown = np.zeros(len(CHANNELS), dtype=np.bool_)
    name = f"{len(MODELS)} models, tallies and intervals too"
    taken[name], found = fastest(lambda: resample_models(MODELS, journeys, None, drawn, shown), 1)
    if not all(each.defined == REPLICATES for each in found):
        raise AssertionError([each.why_none for each in found])
    return [
        compared(
            AREA,
            f"a replicate of {name}, of {REPLICATES}, 1M journeys",
            ours=seconds / REPLICATES,
            reference=pass_s,
            reference_name="one numpy pass over the channel codes",
            unit="s",
            goal="<= 10",
        )
        for name, seconds in taken.items()
    ]


def fastest(work: Callable[[], Any], repeats: int = 3) -> tuple[float, Any]:
    """The least processor time of some runs, in seconds, and the last result."""
    best = math.inf
    for _ in range(repeats):
        start = time.process_time()
        result = work()
        best = min(best, time.process_time() - start)
    return best, result
