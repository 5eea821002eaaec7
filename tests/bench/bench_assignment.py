"""Assignment against what else decides, against the hash alone, and against an empty RPC.

One experiment in halves is for the units of one country. What is timed is a whole decision from the
id and the attributes: value, reason and metadata, as a product asks for them.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mmh3 import mmh3_32_uintdigest
from touchstone.assignment.v1 import experiment_pb2
from touchstone_assignment.subject import Subject

from tests.bench.assignment_local import local_decisions
from tests.bench.assignment_rules import SPLIT_SALT, one_experiment
from tests.bench.assignment_scale import at_scale, in_bulk, with_a_list
from tests.bench.assignment_watch import watch_changes
from tests.bench.assignment_wire import assign_beside_echo
from tests.bench.report import BenchRow, compared, missing, peer_environment

AREA = "assignment"
UNITS = [f"user-{number}" for number in range(20_000)]
# Short passes, and many: on a busy machine a long one is never left alone.
TIMED = UNITS[:1000]
PASSES = 200
FLAGD = ["openfeature-flagd-core==2.0.0"]
EPPO = ["eppo-server-sdk==4.4.1"]
# By the environment, what is run in it, the peer's name and the goal.
PEERS = (
    ("flagd", "flagd", "openfeature-flagd-core 2.0.0", FLAGD, "<= 0.1"),
    ("growthbook", "growthbook", "growthbook 4.0.0", ["growthbook==4.0.0"], "<= 0.1"),
    ("eppo", "eppo_details", "eppo-server-sdk 4.4.1 with details", EPPO, "<= 1"),
    ("eppo", "eppo", "eppo-server-sdk 4.4.1, value alone", EPPO, ""),
)


def run() -> list[BenchRow]:
    """Every comparison of assignment."""
    ours, limit = _microseconds(_decide(experiment_pb2.HASH_VERSION_FLAGD_V2), _one_hash)
    rows = [
        compared(
            AREA,
            "decide: one targeting rule and a split, reason and metadata",
            ours=ours,
            reference=1,
            reference_name="a microsecond",
            unit="us",
            goal="<= 1",
        ),
        compared(
            AREA,
            "decide: the same",
            ours=ours,
            reference=limit,
            reference_name="a bare mmh3 hash (physical limit)",
            unit="us",
            goal="",
        ),
    ]
    for environment, peer, name, requirements, goal in PEERS:
        rows += _beside(environment, peer, name, requirements, goal)
    rows += local_decisions() + in_bulk() + at_scale() + with_a_list()
    return rows + assign_beside_echo() + watch_changes()


def _beside(
    environment: str, peer: str, name: str, requirements: Sequence[str], goal: str
) -> list[BenchRow]:
    flagd = peer == "flagd"
    version = (
        experiment_pb2.HASH_VERSION_FLAGD_V3 if flagd else experiment_pb2.HASH_VERSION_FLAGD_V2
    )
    decide = _decide(version)
    (ours,) = _microseconds(decide)
    title = f"decide: one targeting rule and a split, beside {peer}"
    python, reason = peer_environment(environment, requirements)
    found = None
    if python is not None:
        found, reason = _run_peer(python, peer)
    if found is None:
        return [
            missing(
                AREA, title, ours=ours, reference_name=name, unit="us", goal=goal, reason=reason
            )
        ]
    rows = [
        compared(
            AREA,
            title,
            ours=ours,
            reference=found["us"],
            reference_name=name,
            unit="us",
            goal=goal,
        )
    ]
    if flagd:
        same = sum(decide(u) == v for u, v in zip(UNITS, found["variants"], strict=True))
        rows.append(
            compared(
                AREA,
                "units with the variant that flagd computes (flagd-v3)",
                ours=same,
                reference=len(UNITS),
                reference_name=name,
                unit="units",
                goal=">= 1",
            )
        )
    return rows


def _run_peer(python: Path, peer: str) -> tuple[dict[str, Any] | None, str]:
    """What the peer found, or None and why there is nothing."""
    job = {
        "units": UNITS,
        "split_salt": SPLIT_SALT,
        "timed": len(TIMED),
        "passes": PASSES // 2,
    }
    script = Path(__file__).with_name("assignment_peers.py")
    done = subprocess.run(
        [str(python), str(script), peer],
        input=json.dumps(job),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        return None, lines[-1] if lines else f"status {done.returncode}"
    return json.loads(done.stdout), ""


def _decide(version: experiment_pb2.HashVersion.ValueType) -> Callable[[str], str | None]:
    evaluator = one_experiment(version)

    def decide(unit: str) -> str | None:
        button = evaluator.experiments["button"]
        found = button.decide(Subject({"user": unit}, {"country": "DE"}))
        _answer = found.value, found.reason, button.metadata
        return found.variant

    return decide


def _one_hash(unit: str) -> None:
    mmh3_32_uintdigest(b"split/bench:" + unit.encode())


def _microseconds(*works: Callable[[str], object]) -> list[float]:
    """The time of one call of each, as the best of many passes that take turns."""
    best = [float("inf")] * len(works)
    for _ in range(PASSES):
        for index, work in enumerate(works):
            start = time.perf_counter()
            for unit in TIMED:
                work(unit)
            best[index] = min(best[index], time.perf_counter() - start)
    return [seconds / len(TIMED) * 1e6 for seconds in best]
