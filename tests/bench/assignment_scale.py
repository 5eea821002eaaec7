"""Many units of one experiment at once, and many experiments in one project."""

from __future__ import annotations

import gc
import time
import tracemalloc
from collections.abc import Callable
from functools import partial

import pyarrow as pa
from touchstone.assignment.v1 import experiment_pb2, ruleset_pb2
from touchstone_assignment.bulk import decide_many
from touchstone_assignment.compiled import Evaluator
from touchstone_assignment.conditions.id_set import digest_of
from touchstone_assignment.decision import Reason
from touchstone_assignment.subject import Subject

from tests.bench.assignment_rules import (
    AUDIENCES,
    EXPERIMENTS,
    LISTED,
    compiled,
    large_ruleset,
    list_of,
    one_experiment,
    with_list,
)
from tests.bench.report import BenchRow, compared

AREA = "assignment"
MANY = 1_000_000
MEGABYTE = 1e6


def in_bulk() -> list[BenchRow]:
    """Rows: decisions a second, slot and split, of a million units on one core."""
    evaluator = one_experiment(experiment_pb2.HASH_VERSION_FLAGD_V2, 5000, targeted=False)
    short = pa.array([f"user-{number:07}" for number in range(MANY)])
    long = pa.array([f"{number:08x}-1b9d-4bad-9bdd-2b0d7b3dcb6d" for number in range(MANY)])
    rows = []
    for title, ids in (("ids of 12 bytes", short), ("UUIDs", long)):
        seconds = _best(partial(decide_many, evaluator, "button", ids), 5)
        rows.append(
            compared(
                AREA,
                f"decide_many: slot and split, an Arrow array of {title}",
                ours=MANY / seconds / 1e6,
                reference=10,
                reference_name="ten million decisions a second a core",
                unit="M/s",
                goal=">= 1",
            )
        )
    units = [str(unit) for unit in short[:2000]]
    one = _best(lambda: [evaluator.decide("button", Subject({"user": unit})) for unit in units], 20)
    rows.append(
        compared(
            AREA,
            "decide_many: the same, beside one call a unit",
            ours=rows[0].ours,
            reference=len(units) / one / 1e6,
            reference_name="Evaluator.decide in a loop",
            unit="M/s",
            goal="",
        )
    )
    return rows


def at_scale() -> list[BenchRow]:
    """Rows: loading, memory and deciding with 5,000 experiments and 1,000 audiences."""
    sent = large_ruleset().SerializeToString()
    first = compiled(ruleset_pb2.Ruleset.FromString(sent))
    load_s = _best(lambda: compiled(ruleset_pb2.Ruleset.FromString(sent)), 3)
    parse_s = _best(lambda: ruleset_pb2.Ruleset.FromString(sent), 3)
    changed = large_ruleset(2, stopped=17)
    again_s = _best(lambda: compiled(changed, first), 3)
    many = _decision_s(lambda unit: first.decide("e4999", unit))
    alone = one_experiment(experiment_pb2.HASH_VERSION_FLAGD_V2, 2000)
    few = _decision_s(lambda unit: alone.decide("button", unit))
    what = f"{EXPERIMENTS:,} experiments and {AUDIENCES:,} audiences"
    return [
        _row(f"load {what}", load_s * 1e3, parse_s * 1e3, "parsing the ruleset", "ms"),
        _row(
            f"take a change of one of {what}",
            again_s * 1e3,
            load_s * 1e3,
            "loading all",
            "ms",
            "<= 0.5",
        ),
        _row(
            f"memory of {what}",
            _held_bytes(lambda: compiled(ruleset_pb2.Ruleset.FromString(sent))) / MEGABYTE,
            len(sent) / MEGABYTE,
            "the serialized ruleset",
            "MB",
        ),
        _row(f"decide among {what}", many * 1e6, few * 1e6, "a project of one", "us", "<= 1.5"),
    ]


def with_a_list() -> list[BenchRow]:
    """Rows: the same with an id list of a million besides, read from its bytes."""
    listed = list_of(LISTED)
    sent = with_list(digest_of(listed)).SerializeToString()

    def load() -> Evaluator:
        return compiled(ruleset_pb2.Ruleset.FromString(sent), None, listed)

    found = load()
    assert found.decide("e4999", Subject({"user": "user-2"})).reason is not Reason.NOT_TARGETED
    assert found.decide("e4999", Subject({"user": "user-3"})).reason is Reason.NOT_TARGETED
    load_s, held = _best(load, 3), _held_bytes(load)
    by_list = _decision_s(lambda unit: found.decide("e4999", unit))
    by_rule = _decision_s(lambda unit: found.decide("e4998", unit))
    what = f"{EXPERIMENTS:,} experiments, {AUDIENCES:,} audiences and a list of {LISTED:,} ids"
    bytes_sent = (len(sent) + len(listed)) / MEGABYTE
    return [
        _row(f"load {what}", load_s, 10.0, "ten seconds", "s", "<= 1"),
        _row(f"memory of {what}", held / MEGABYTE, bytes_sent, "ruleset and list as bytes", "MB"),
        _row(f"decide by the list among {what}", by_list * 1e6, by_rule * 1e6, "by a rule", "us"),
    ]


def _row(
    name: str, ours: float, reference: float, reference_name: str, unit: str, goal: str = ""
) -> BenchRow:
    return compared(
        AREA,
        name,
        ours=ours,
        reference=reference,
        reference_name=reference_name,
        unit=unit,
        goal=goal,
    )


def _decision_s(decide: Callable[[Subject], object]) -> float:
    units = [Subject({"user": f"user-{number}"}, {"country": "DE"}) for number in range(1000)]
    return _best(lambda: [decide(unit) for unit in units], 100) / len(units)


def _held_bytes(load: Callable[[], Evaluator]) -> int:
    """What Python holds for an evaluator, without the messages, which are about the bytes sent."""
    gc.collect()
    tracemalloc.start()
    try:
        kept = load()
        gc.collect()
        return tracemalloc.get_traced_memory()[0] if kept.experiments else 0
    finally:
        tracemalloc.stop()


def _best(work: Callable[[], object], passes: int) -> float:
    """Seconds of the best of several passes, by the time that the processor spent on it."""
    best = float("inf")
    for _ in range(passes):
        start = time.process_time()
        work()
        best = min(best, time.process_time() - start)
    return best
