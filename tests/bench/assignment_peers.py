"""Runs in a peer's own environment: `python assignment_peers.py PEER`, with the job on stdin.

The job is {"units": [...], "split_salt", "timed", "passes"}. One experiment is for units of one
country and splits them evenly; every unit comes with its country. Prints {"us": microseconds for
one decision, "variants": [...]} on standard output.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

Decide = Callable[[str], "str | None"]


def flagd(job: dict[str, Any]) -> Decide:
    """openfeature-flagd-core, by a targeting rule around a `fractional` operation."""
    import logging

    # The imports below exist only in the peer's own environment.
    from openfeature.contrib.tools.flagd.core import (  # type: ignore[import-not-found]
        FlagdCore,
    )
    from openfeature.evaluation_context import EvaluationContext

    logging.getLogger("openfeature").setLevel(logging.CRITICAL)
    split = {
        "fractional": [
            {"cat": [job["split_salt"] + ":", {"var": "targetingKey"}]},
            ["control", 5000],
            ["green", 5000],
        ]
    }
    flag = {
        "state": "ENABLED",
        "variants": {"control": "control", "green": "green", "none": "none"},
        "defaultVariant": "none",
        "targeting": {"if": [{"===": [{"var": "country"}, "DE"]}, split, None]},
        "metadata": {"experiment": "button", "configVersion": 2},
    }
    core = FlagdCore()
    core.set_flags(json.dumps({"flags": {"button": flag}}))

    def decide(unit_id: str) -> str | None:
        context = EvaluationContext(unit_id, {"country": "DE"})
        found = core.resolve_string_value("button", "none", context)
        return None if found.value == "none" else found.value

    return decide


def growthbook(job: dict[str, Any]) -> Decide:
    """growthbook, by its innermost function, with all that does not change made beforehand."""
    # The imports below exist only in the peer's own environment.
    from growthbook.common_types import (  # type: ignore[import-not-found]
        EvaluationContext,
        Feature,
        GlobalContext,
        Options,
        StackContext,
        UserContext,
    )
    from growthbook.core import eval_feature  # type: ignore[import-not-found]

    rule = {
        "id": "rule",
        "key": job["split_salt"],
        "condition": {"country": "DE"},
        "variations": ["control", "green"],
        "weights": [0.5, 0.5],
        "coverage": 1,
        "hashAttribute": "id",
        "hashVersion": 2,
        "seed": job["split_salt"],
    }
    features = {"button": Feature("none", [rule])}
    shared = GlobalContext(options=Options(), features=features)

    def decide(unit_id: str) -> str | None:
        user = UserContext(attributes={"id": unit_id, "country": "DE"})
        context = EvaluationContext(user=user, global_ctx=shared, stack=StackContext())
        found = eval_feature("button", context)
        return None if found.value == "none" else found.value

    return decide


def eppo(job: dict[str, Any]) -> Decide:
    """eppo-server-sdk (a Rust core), value alone, from a configuration in memory."""
    client = _eppo_client(job)

    def decide(unit_id: str) -> str | None:
        found = client.get_string_assignment("button", unit_id, {"country": "DE"}, "none")
        return None if found == "none" else found

    return decide


def eppo_details(job: dict[str, Any]) -> Decide:
    """The same with the reason of the decision, as the others give it."""
    client = _eppo_client(job)

    def decide(unit_id: str) -> str | None:
        found = client.get_string_assignment_details("button", unit_id, {"country": "DE"}, "none")
        return None if found.variation == "none" else found.variation

    return decide


def _eppo_client(job: dict[str, Any]) -> Any:
    import eppo_client  # type: ignore[import-not-found]
    from eppo_client import AssignmentLogger, ClientConfig, Configuration

    def split(variant: str, start: int) -> dict[str, Any]:
        ranges = [{"start": start, "end": start + 5000}]
        return {
            "variationKey": variant,
            "shards": [{"salt": job["split_salt"], "ranges": ranges}],
        }

    condition = {"attribute": "country", "operator": "ONE_OF", "value": ["DE"]}
    flag = {
        "key": "button",
        "enabled": True,
        "variationType": "STRING",
        "totalShards": 10_000,
        "variations": {key: {"key": key, "value": key} for key in ("control", "green")},
        "allocations": [
            {
                "key": "half",
                "rules": [{"conditions": [condition]}],
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
    return eppo_client.init(
        ClientConfig(
            api_key="none",
            assignment_logger=AssignmentLogger(),
            poll_interval_seconds=None,
            initial_configuration=Configuration(flags_configuration=json.dumps(document).encode()),
        )
    )


PEERS = {"flagd": flagd, "growthbook": growthbook, "eppo": eppo, "eppo_details": eppo_details}


def main() -> None:
    """Times one peer and prints what it decided."""
    job = json.load(sys.stdin)
    decide = PEERS[sys.argv[1]](job)
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
