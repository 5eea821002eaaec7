"""Runs in a peer's own environment: `python assignment_peers.py PEER`, with the job on stdin.

The job is {"units": [...], "layer_salt", "split_salt", "timed", "passes"}. One experiment owns
the first half of the layer's 10,000 slots and splits its units evenly. Prints {"us": microseconds
for one decision, "variants": [...]} on standard output.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any


def flagd(job: dict[str, Any]) -> Callable[[str], str | None]:
    """openfeature-flagd-core, by a targeting rule of two `fractional` operations."""
    import logging

    # The imports below exist only in the peer's own environment.
    from openfeature.contrib.tools.flagd.core import (  # type: ignore[import-not-found]
        FlagdCore,
    )
    from openfeature.evaluation_context import EvaluationContext

    logging.getLogger("openfeature").setLevel(logging.CRITICAL)
    unit = {"var": "targetingKey"}
    slot = {"fractional": [{"cat": [job["layer_salt"] + ":", unit]}, [True, 5000], [False, 5000]]}
    split = {
        "fractional": [
            {"cat": [job["split_salt"] + ":", unit]},
            ["control", 5000],
            ["green", 5000],
        ]
    }
    flag = {
        "state": "ENABLED",
        "variants": {"control": "control", "green": "green", "none": "none"},
        "defaultVariant": "none",
        "targeting": {"if": [slot, split, None]},
    }
    core = FlagdCore()
    core.set_flags(json.dumps({"flags": {"button": flag}}))

    def decide(unit_id: str) -> str | None:
        found = core.resolve_string_value("button", "none", EvaluationContext(unit_id))
        return None if found.value == "none" else found.value

    return decide


def eppo(job: dict[str, Any]) -> Callable[[str], str | None]:
    """eppo-server-sdk (a Rust core), by two shards, from a configuration in memory."""
    import eppo_client  # type: ignore[import-not-found]
    from eppo_client import AssignmentLogger, ClientConfig, Configuration

    def split(variant: str, start: int) -> dict[str, Any]:
        shards = [
            {"salt": job["layer_salt"], "ranges": [{"start": 0, "end": 5000}]},
            {"salt": job["split_salt"], "ranges": [{"start": start, "end": start + 5000}]},
        ]
        return {"variationKey": variant, "shards": shards}

    flag = {
        "key": "button",
        "enabled": True,
        "variationType": "STRING",
        "totalShards": 10_000,
        "variations": {key: {"key": key, "value": key} for key in ("control", "green")},
        "allocations": [
            {
                "key": "half",
                "rules": [],
                "doLog": False,
                "splits": [split("control", 0), split("green", 5000)],
            }
        ],
    }
    document = {
        "createdAt": "2026-01-01T00:00:00.000Z",
        "format": "SERVER",
        "environment": {"name": "bench"},
        "flags": {"button": flag},
    }
    client = eppo_client.init(
        ClientConfig(
            api_key="none",
            assignment_logger=AssignmentLogger(),
            poll_interval_seconds=None,
            initial_configuration=Configuration(flags_configuration=json.dumps(document).encode()),
        )
    )

    def decide(unit_id: str) -> str | None:
        found = client.get_string_assignment("button", unit_id, {}, "none")
        return None if found == "none" else found

    return decide


def main() -> None:
    """Times one peer and prints what it decided."""
    job = json.load(sys.stdin)
    decide = {"flagd": flagd, "eppo": eppo}[sys.argv[1]](job)
    units = job["units"]
    variants = [decide(unit) for unit in units]
    best = float("inf")
    timed = units[: job["timed"]]
    for _ in range(job["passes"]):
        start = time.perf_counter()
        for unit in timed:
            decide(unit)
        best = min(best, time.perf_counter() - start)
    print(json.dumps({"us": best / len(timed) * 1e6, "variants": variants}))


if __name__ == "__main__":
    main()
