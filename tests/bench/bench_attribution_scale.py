"""Attribution at its largest: many touches in one pass, a chain of many channels.

TOUCHSTONE_BENCH_ATTRIBUTION_TOUCHES asks for more than two million (20 million is the full size):
the pass goes over five times as many touches, and the wide chain is made of a twentieth of it in
journeys.
"""

import json
import os
import subprocess
import sys
import time
from typing import Any

import numpy as np

from services.attribution.domain.journeys import Journeys
from services.attribution.domain.markov import chain_removal_effects, count_chain
from tests.bench.report import BenchRow, compared

AREA = "attribution"
TOUCHES = int(os.environ.get("TOUCHSTONE_BENCH_ATTRIBUTION_TOUCHES", "2000000"))
FULL_PASS = 100_000_000
FULL_PASS_S = 10
PASS_MB = 1_000
WIDE_S = 60


def run() -> list[BenchRow]:
    """The rows of this module."""
    return [*one_pass(), wide_chain()]


def one_pass() -> list[BenchRow]:
    """Processor seconds and memory of all models over many touches, in a process of its own."""
    command = [sys.executable, "-m", "tests.bench.attribution_pass", str(5 * TOUCHES)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=3_600)
    found: dict[str, Any] = json.loads(done.stdout)
    name = f"rules, order 1 and Shapley in one pass, {found['touches']:,} touches"
    return [
        compared(
            AREA,
            name,
            ours=found["cpu_s"],
            reference=FULL_PASS_S * found["touches"] / FULL_PASS,
            reference_name="10 s of a core for 100 million touches",
            unit="s",
            goal="<= 1",
        ),
        compared(
            AREA,
            f"{name}: memory",
            ours=found["peak_mb"],
            reference=PASS_MB,
            reference_name="1 GB, whatever the number of touches",
            unit="MB",
            goal="<= 1",
        ),
    ]


def wide_chain() -> BenchRow:
    """The removal effects of 500 channels at order 2, where most steps were seen once."""
    journeys = wide_journeys(500, TOUCHES // 20)
    start = time.process_time()
    converting, others = count_chain(journeys, 2)
    effects = chain_removal_effects(converting + others)
    seconds = time.process_time() - start
    if effects.unreachable.any() or effects.error_bound > 1e-9:
        raise AssertionError(f"an error of up to {effects.error_bound}")
    return compared(
        AREA,
        f"order-2 Markov of 500 channels, {len(journeys):,} journeys, processor time",
        ours=seconds,
        reference=WIDE_S,
        reference_name="a minute",
        unit="s",
        goal="<= 1",
    )


def wide_journeys(channels: int, count: int) -> Journeys:
    """Journeys of 1 + Poisson(3) touches; the share of a channel falls with its number."""
    generator = np.random.default_rng(7)
    offsets = np.concatenate([[0], np.cumsum(1 + generator.poisson(3, count))])
    shares = np.arange(channels, 0, -1) / np.arange(channels + 1).sum()
    touches, converting = np.arange(offsets[-1]), count // 20
    return Journeys(
        channels=tuple(f"channel_{number:03d}" for number in range(channels)),
        offsets=offsets,
        codes=generator.choice(channels, len(touches), p=shares).astype(np.int32),
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
