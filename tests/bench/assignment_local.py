"""What a product calls: LocalAssignment.decide, beside the evaluator that it asks."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from touchstone.assignment.v1 import experiment_pb2
from touchstone_assignment.local import LocalAssignment, Settings, kept_rules
from touchstone_assignment.subject import Subject
from touchstone_events.settings import Service

from tests.bench.assignment_rules import compiled, one_ruleset
from tests.bench.report import BenchRow, compared

UNITS = [f"user-{number}" for number in range(1000)]
PASSES = 300
COUNTRY = {"country": "DE"}
NOWHERE = Service("127.0.0.1:1", "ts_nobody")


def local_decisions() -> list[BenchRow]:
    """Rows: a decision with its ids checked and everything that an Answer says."""
    rules = one_ruleset(experiment_pb2.HASH_VERSION_FLAGD_V2)
    evaluator = compiled(rules)
    with _deciding_by(rules.SerializeToString(deterministic=True), rules.project) as local:
        assert local.decide("button", {"user": "user-1"}, COUNTRY).variant is not None
        ours, theirs = _microseconds(
            lambda unit: local.decide("button", {"user": unit}, COUNTRY),
            lambda unit: evaluator.decide("button", Subject({"user": unit}, COUNTRY)),
        )
    title = "LocalAssignment.decide: one targeting rule and a split"
    return [
        compared(
            "assignment",
            title,
            ours=ours,
            reference=reference,
            reference_name=name,
            unit="us",
            goal=goal,
        )
        for reference, name, goal in (
            (1.0, "a microsecond", "<= 1"),
            (theirs, "Evaluator.decide", ""),
        )
    ]


@contextmanager
def _deciding_by(ruleset: bytes, project: str) -> Iterator[LocalAssignment]:
    """By the rules of the disk; the service is away."""
    with tempfile.TemporaryDirectory() as folder:
        now_s = time.time()
        kept = kept_rules.Kept(ruleset, 1, now_s, now_s)
        kept_rules.write(kept_rules.path_of(Path(folder), project), project, kept)
        with LocalAssignment(NOWHERE, Settings(project, folder=Path(folder))) as local:
            assert local.ready
            yield local


def _microseconds(*works: Callable[[str], object]) -> list[float]:
    """The processor time of one call of each, as the best of many passes that take turns."""
    best = [float("inf")] * len(works)
    for _ in range(PASSES):
        for index, work in enumerate(works):
            start = time.thread_time()
            for unit in UNITS:
                work(unit)
            best[index] = min(best[index], time.thread_time() - start)
    return [seconds / len(UNITS) * 1e6 for seconds in best]
