"""Decisions for many units at once are exactly those of one unit after another."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from touchstone.assignment.v1 import ruleset_pb2
from touchstone_assignment.bucketing import HashVersion, hash_key
from touchstone_assignment.bulk import decide_many
from touchstone_assignment.bulk.ids import column_of
from touchstone_assignment.bulk.murmur import Hasher, beginning
from touchstone_assignment.compiled import Evaluator
from touchstone_assignment.decision import UNKNOWN_EXPERIMENT, Reason
from touchstone_assignment.subject import Subject

from tests.unit.assignment import ruling

PLAIN = [f"user-{number}" for number in range(3000)]
STRANGE = ["café", "用户-7", "50%", "\x7f", "tab\there", "\U0001f600" * 9, "a\x00b", "x" * 300, " "]
MIXED = [*PLAIN[:500], *STRANGE, *(f"{'y' * (number % 40)}{number}" for number in range(2000))]


def same(evaluator: Evaluator, key: str, ids: Sequence[str | None], sent: Any = None) -> None:
    """Bulk decisions of what is sent equal those of the ids one by one."""
    found = decide_many(evaluator, key, ids if sent is None else sent)
    assert len(found) == len(ids)
    for row, unit in enumerate(ids):
        subject = Subject({} if unit is None else {"user": unit})
        assert found[row] == evaluator.decide(key, subject), (row, unit)


def world(version: int = ruling.FLAGD_V2, **changes: Any) -> Evaluator:
    """An experiment in a domain, with holdouts, a dropped variant and scattered slots."""
    base: dict[str, Any] = {
        "layer": "inner",
        "hash_version": version,
        "slots": ruling.slots((0, 3000), (5000, 5500), (9000, 10_000)),
        "variants": ruling.variants(("a", 3000), ("b", 2500), ("c", 4500), dropped=["b"]),
    }
    return ruling.evaluator(
        ruling.experiment(**(base | changes)),
        layers=[ruling.layer(), ruling.layer("inner", domain="part", hash_version=version)],
        domains=[
            ruleset_pb2.DomainRule(domain="part", layer="checkout", slots=ruling.slots((0, 8000)))
        ],
        holdouts=[
            ruling.holdout("h1", 1000, hash_version=version),
            ruling.holdout("h2", 500, layers=["inner"]),
            ruling.holdout("other", 10_000, experiments=["elsewhere"]),
        ],
    )


@pytest.mark.parametrize("version", [ruling.FLAGD_V2, ruling.FLAGD_V3])
@pytest.mark.parametrize("ids", [PLAIN, MIXED, [*PLAIN[:90], None, *PLAIN[90:200], None]])
def test_everything_that_hangs_on_the_id_alone_is_the_same(
    version: int, ids: list[str | None]
) -> None:
    evaluator = world(version)
    same(evaluator, "button", ids)
    reasons = {found.reason for found, _ in decide_many(evaluator, "button", ids).counts()}
    assert reasons >= {
        Reason.SPLIT,
        Reason.VARIANT_DROPPED,
        Reason.HOLDOUT,
        Reason.NOT_IN_DOMAIN,
        Reason.NOT_IN_SLOTS,
    }


SALTS = st.text("abcXYZ019._/-", min_size=1, max_size=40)


@settings(max_examples=120, deadline=None)
@given(
    salt=SALTS,
    size=st.integers(1, 300),
    version=st.sampled_from([*HashVersion]),
    seed=st.integers(0, 2**32 - 1),
)
def test_hashes_of_any_length_behind_any_salt_are_those_of_the_library(
    salt: str, size: int, version: HashVersion, seed: int
) -> None:
    letters = np.random.default_rng(seed).integers(0x30, 0x7B, (5, size), np.uint8)
    ids = [row.tobytes().decode() for row in letters]
    (column,) = column_of([*ids, "padding"])
    hasher = Hasher.of(beginning(version, salt, size), size, size, 16)
    found = hasher.hash(column.words(column.starts[:5], size)).tolist()
    assert found == [hash_key(version, f"{salt}:{unit}") for unit in ids]


@settings(max_examples=120, deadline=None)
@given(
    salt=SALTS,
    low=st.integers(1, 40),
    more=st.lists(st.integers(0, 20), min_size=1, max_size=12),
)
def test_hashes_of_ids_of_different_sizes_together_are_those_of_the_library(
    salt: str, low: int, more: list[int]
) -> None:
    ids = ["abcdefghij"[n % 10] * (low + n) for n in more]
    (column,) = column_of([*ids, "z" * 64])
    sizes = column.sizes[:-1].astype(np.uint32)
    least, most = int(sizes.min()), int(sizes.max())
    hasher = Hasher.of(beginning(HashVersion.FLAGD_V2, salt, least), least, most, 16)
    found = hasher.hash(column.words(column.starts[:-1], most, sizes), sizes).tolist()
    assert found == [hash_key(HashVersion.FLAGD_V2, f"{salt}:{unit}") for unit in ids]


@pytest.mark.parametrize("version", [ruling.FLAGD_V2, ruling.FLAGD_V3])
def test_sizes_that_are_far_apart_and_many_of_them_are_the_same(version: int) -> None:
    ids = [f"{'y' * (n % 90)}{n}" for n in range(5000)] + ["x" * 250] * 70 + ["", *["z"] * 70][1:]
    same(world(version), "button", ids)
    ids = [f"u{n}" for n in range(12_000)]
    same(world(version), "button", ids)


@settings(max_examples=60, deadline=None)
@given(
    ids=st.lists(st.text(min_size=1), max_size=8),
    many=st.integers(0, 150),
    cuts=st.lists(st.integers(1, 9_999), max_size=8, unique=True).map(sorted),
    version=st.sampled_from([ruling.FLAGD_V2, ruling.FLAGD_V3]),
)
def test_any_ids_any_slots_and_any_weights_are_the_same(
    ids: list[str], many: int, cuts: list[int], version: int
) -> None:
    edges = [0, *cuts, 10_000]
    runs = list(pairwise(edges))
    weights = [(f"v{number}", end - first) for number, (first, end) in enumerate(runs)]
    evaluator = ruling.evaluator(
        ruling.experiment(
            slots=ruling.slots(*runs[::2]),
            variants=ruling.variants(*weights),
            hash_version=version,
        )
    )
    same(evaluator, "button", [*ids, *PLAIN[:many]])


def test_many_variants_some_without_weight_are_the_same() -> None:
    weights = [("first", 0), *((f"v{number}", 500) for number in range(20)), ("last", 0)]
    for chosen in (weights, [("all", 10_000), ("none", 0)], [("only", 10_000)]):
        rule = ruling.experiment(variants=ruling.variants(*chosen), bandit=True)
        same(ruling.evaluator(rule), "button", PLAIN)


def test_a_large_number_of_units_goes_in_chunks() -> None:
    ids = [f"{number:09}" for number in range(20_000)]
    same(ruling.evaluator(ruling.experiment(slots=ruling.slots((10, 2500)))), "button", ids)


@pytest.mark.parametrize(
    "sent",
    [
        pa.array(MIXED),
        pa.array(MIXED, pa.large_string()),
        pa.array(["in front", None, *MIXED, "behind"]).slice(2, len(MIXED)),
        pa.chunked_array([MIXED[:700], [], MIXED[700:]]),
        pa.array(MIXED).dictionary_encode(),
        np.array([unit.encode() for unit in MIXED]),
        np.array([unit.encode() for unit in MIXED])[::1].copy(),
        np.array(MIXED),
        np.array(MIXED, dtype=object),
        tuple(MIXED),
    ],
    ids=lambda sent: type(sent).__name__,
)
def test_ids_may_come_in_many_forms(sent: Any) -> None:
    same(world(), "button", MIXED, sent)


def test_arrays_of_bytes_without_zeros_in_the_ids_and_strided_ones() -> None:
    array = np.array([unit.encode() for unit in PLAIN])
    same(world(), "button", PLAIN, array)
    same(world(), "button", PLAIN[::3], array[::3])


def test_missing_ids_are_told_from_all_others() -> None:
    ids = ["u1", None, *PLAIN[:100], None]
    for sent in (ids, pa.array(ids), np.array(ids, dtype=object)):
        same(world(), "button", ids, sent)


Change = Callable[[ruleset_pb2.ExperimentRule], None]


def forced(rule: ruleset_pb2.ExperimentRule) -> None:
    rule.forced.add(unit_type="user", unit_id="user-7", variant="green")
    rule.forced.add(unit_type="user", unit_id="user-8")
    rule.forced.add(unit_type="user", unit_id="café", variant="control")
    rule.forced.add(unit_type="device", unit_id="user-9", variant="control")


def targeted(rule: ruleset_pb2.ExperimentRule) -> None:
    rule.targeting.negated.CopyFrom(ruling.country("DE"))


def switched(rule: ruleset_pb2.ExperimentRule) -> None:
    rule.switchback.window_s = 60


def needing(rule: ruleset_pb2.ExperimentRule) -> None:
    rule.prerequisites.add(experiment="other", variants=["control"])


def killed(rule: ruleset_pb2.ExperimentRule) -> None:
    rule.serving = ruleset_pb2.SERVING_KILLED


def draft(rule: ruleset_pb2.ExperimentRule) -> None:
    rule.serving = ruleset_pb2.SERVING_NOT_RUNNING
    forced(rule)


@pytest.mark.parametrize("change", [forced, targeted, switched, needing, killed, draft])
def test_what_asks_for_more_than_the_id_is_the_same_as_well(change: Change) -> None:
    rule = ruling.experiment(slots=ruling.slots((0, 5000)))
    change(rule)
    other = ruling.experiment("other", layer="other")
    evaluator = ruling.evaluator(rule, other, layers=[ruling.layer(), ruling.layer("other")])
    same(evaluator, "button", MIXED)


def test_a_switchback_goes_by_the_time_that_is_given() -> None:
    rule = ruling.experiment()
    rule.switchback.window_s = 60
    evaluator = ruling.evaluator(rule)
    for now_s in (0.0, 60.0, 120.0, 180.0, 240.0):
        found = decide_many(evaluator, "button", ["u1"], now_s)[0]
        assert found == evaluator.decide("button", Subject({"user": "u1"}, {}, now_s))


def test_an_unknown_experiment_is_unknown_to_all() -> None:
    found = decide_many(world(), "none", pa.chunked_array([["a"], ["b", "c"]]))
    assert found.counts() == [(UNKNOWN_EXPERIMENT, 3)]


def test_values_that_are_objects_and_no_units_at_all() -> None:
    rule = ruling.experiment(value_type=6)
    for variant in rule.variants:
        variant.value.struct_value.update({"key": [variant.key]})
    evaluator = ruling.evaluator(rule)
    same(evaluator, "button", PLAIN[:200])
    nothing: Any
    for nothing in (
        [],
        pa.array([], pa.string()),
        pa.chunked_array([], pa.string()),
        np.array([], "S4"),
    ):
        found = decide_many(evaluator, "button", nothing)
        assert (len(found), found.counts(), list(found.variants())) == (0, [], [])


def test_variants_and_counts_say_who_got_what() -> None:
    evaluator = world()
    found = decide_many(evaluator, "button", PLAIN)
    expected = [evaluator.decide("button", Subject({"user": unit})) for unit in PLAIN]
    assert list(found.variants()) == [decision.variant for decision in expected]
    assert sum(many for _, many in found.counts()) == len(PLAIN)
    for decision, many in found.counts():
        assert many == expected.count(decision)


@pytest.mark.parametrize("bad", ["", "\ud800"])
def test_an_id_that_cannot_be_a_key_is_an_error_here_as_well(bad: str) -> None:
    with pytest.raises(ValueError, match="unit id"):
        decide_many(world(), "button", [*PLAIN[:100], bad])


@pytest.mark.parametrize("bad", [np.array([1, 2]), np.array([[b"a"]])])
def test_what_holds_no_ids_is_refused(bad: Any) -> None:
    with pytest.raises(TypeError, match="one column of bytes or text"):
        decide_many(world(), "button", bad)
