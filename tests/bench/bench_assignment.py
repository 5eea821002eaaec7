"""Assignment against what else decides, against the hash alone, and against an empty RPC."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mmh3 import mmh3_32_uintdigest
from touchstone.assignment.v1 import experiment_pb2, ruleset_pb2
from touchstone_assignment.compile import compile_ruleset
from touchstone_assignment.compiled import Evaluator
from touchstone_assignment.conditions import IdSet
from touchstone_assignment.subject import Subject

from tests.bench.assignment_wire import assign_beside_echo
from tests.bench.report import BenchRow, compared, missing, peer_environment

AREA = "assignment"
LAYER_SALT, SPLIT_SALT = "layer/bench", "split/bench"
UNITS = [f"user-{number}" for number in range(20_000)]
# Short passes, and many: on a busy machine a long one is never left alone.
TIMED = UNITS[:1000]
PASSES = 200
PEERS = {
    "flagd": ("openfeature-flagd-core 2.0.0", ["openfeature-flagd-core==2.0.0"], "<= 0.1"),
    "eppo": ("eppo-server-sdk 4.4.1", ["eppo-server-sdk==4.4.1"], "<= 2"),
}


def run() -> list[BenchRow]:
    """Every comparison of assignment."""
    ours, limit = _microseconds(_decide(experiment_pb2.HASH_VERSION_FLAGD_V2), _two_hashes)
    rows = [
        compared(
            AREA,
            "decide: layer and split, one call a unit",
            ours=ours,
            reference=limit,
            reference_name="two bare mmh3 hashes (physical limit)",
            unit="us",
            goal="<= 3",
        )
    ]
    for peer, (name, requirements, goal) in PEERS.items():
        rows += _beside(peer, name, requirements, goal)
    return rows + assign_beside_echo()


def _beside(
    peer: str,
    name: str,
    requirements: Sequence[str],
    goal: str,
) -> list[BenchRow]:
    decide = _decide(
        experiment_pb2.HASH_VERSION_FLAGD_V3
        if peer == "flagd"
        else experiment_pb2.HASH_VERSION_FLAGD_V2
    )
    (ours,) = _microseconds(decide)
    title = f"decide: layer and split, beside {peer}"
    python, reason = peer_environment(peer, requirements)
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
    if peer == "flagd":
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
        "layer_salt": LAYER_SALT,
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
    evaluator = _evaluator(version)
    return lambda unit: evaluator.decide("button", Subject({"user": unit})).variant


def _evaluator(version: experiment_pb2.HashVersion.ValueType) -> Evaluator:
    layer = ruleset_pb2.LayerRule(
        layer="bench", unit_type="user", salt=LAYER_SALT, hash_version=version
    )
    experiment = ruleset_pb2.ExperimentRule(
        experiment="button",
        config_version=2,
        serving=ruleset_pb2.SERVING_RUNNING,
        unit_type="user",
        layer="bench",
        slots=[ruleset_pb2.Slots(first=0, end=5000)],
        salt=SPLIT_SALT,
        hash_version=version,
        variants=[
            ruleset_pb2.VariantRule(key="control", weight=5000),
            ruleset_pb2.VariantRule(key="green", weight=5000),
        ],
        value_type=experiment_pb2.VALUE_TYPE_KEY,
        control="control",
    )
    ruleset = ruleset_pb2.Ruleset(
        format=1, project="bench", config_version=2, experiments=[experiment], layers=[layer]
    )
    return compile_ruleset(ruleset, _no_lists)


def _no_lists(digest: str) -> IdSet:
    raise LookupError(digest)


def _two_hashes(unit: str) -> None:
    mmh3_32_uintdigest(b"layer/bench:" + unit.encode())
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
