"""Assignment against what else decides, against the hash alone, and against an empty RPC."""

from __future__ import annotations

import datetime as dt
import json
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mmh3 import mmh3_32_uintdigest
from touchstone_assignment.bucketing import HashVersion

from services.assignment.domain.compile import Snapshot, compile_snapshot
from services.assignment.domain.experiment import (
    AssignmentSource,
    Design,
    Experiment,
    State,
    Variant,
)
from services.assignment.domain.layer import Layer
from services.assignment.domain.revision import Revision
from tests.bench.assignment_wire import assign_beside_echo
from tests.bench.report import BenchRow, compared, missing, peer_environment

AREA = "assignment"
LAYER_SALT, SPLIT_SALT = "layer/bench", "split/bench"
UNITS = [f"user-{number}" for number in range(20_000)]
START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
# Short passes, and many: on a busy machine a long one is never left alone.
TIMED = UNITS[:1000]
PASSES = 200
PEERS = {
    "flagd": ("openfeature-flagd-core 2.0.0", ["openfeature-flagd-core==2.0.0"], "<= 0.1"),
    "eppo": ("eppo-server-sdk 4.4.1", ["eppo-server-sdk==4.4.1"], "<= 2"),
}


def run() -> list[BenchRow]:
    """Every comparison of assignment."""
    ours, limit = _microseconds(_decide(HashVersion.FLAGD_V2), _two_hashes)
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
    decide = _decide(HashVersion.FLAGD_V3 if peer == "flagd" else HashVersion.FLAGD_V2)
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


def _decide(version: HashVersion) -> Callable[[str], str | None]:
    snapshot = _snapshot(version)
    return lambda unit: snapshot.decide("button", {"user": unit}).variant


def _snapshot(version: HashVersion) -> Snapshot:
    layer = Layer("bench", "bench", "", "user", LAYER_SALT, version, 1, START).allocate(
        "button", 5000, Revision(2, START)
    )
    design = Design(
        display_name="",
        hypothesis="",
        owner="",
        unit_type="user",
        layer="bench",
        source=AssignmentSource.SLOTS,
        hash_version=version,
        salt=SPLIT_SALT,
        traffic_slots=5000,
        variants=(Variant("control", 5000), Variant("green", 5000)),
        control="control",
    )
    experiment = Experiment("bench", "button", design, State.RUNNING, 2, START, START)
    return compile_snapshot(2, {"button": experiment}, {"bench": layer})


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
