"""The dedupe window against a plain dictionary."""

import hashlib
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.events.domain import dedupe
from services.events.domain.dedupe import DedupeWindow, Seen, bucket_of, make_run
from services.events.domain.steady_day import SteadyDay

DAY = 20_000
NEW, DUPLICATE, CONFLICT = Seen.NEW, Seen.DUPLICATE, Seen.CONFLICT


def key(name: object) -> bytes:
    return hashlib.md5(str(name).encode(), usedforsecurity=False).digest()


def keys(names: Sequence[object]) -> list[bytes]:
    return [key(name) for name in names]


def store(window: DedupeWindow[str], names: Sequence[object], digest: int = 1) -> list[Seen]:
    fingerprints = keys(names)
    answer = window.reserve(fingerprints, [digest << 4] * len(names), "t")
    fresh = [k for k, o in zip(fingerprints, answer.outcomes, strict=True) if o == NEW]
    window.confirm(fresh)
    return list(answer.outcomes)


def run_of(pairs: dict[bytes, int], bucket: int) -> dedupe.Run:
    return make_run(b"".join(pairs), np.array(list(pairs.values()), np.int64), bucket)


def test_the_same_content_is_a_duplicate_and_another_is_a_conflict() -> None:
    window: DedupeWindow[str] = DedupeWindow(30)
    assert store(window, ["a", "b"], digest=1) == [NEW, NEW]
    assert store(window, ["a", "c"], digest=1) == [DUPLICATE, NEW]
    assert store(window, ["a"], digest=2) == [CONFLICT]
    assert store(window, ["a"], digest=1) == [DUPLICATE]


def test_digests_of_two_versions_count_as_a_retry() -> None:
    """The digest version is in the lowest 4 bits: version 2 cannot say what version 1 had meant."""
    window: DedupeWindow[str] = DedupeWindow(30)
    window.load(run_of({key("a"): 0x71}, bucket_of(DAY)))
    assert window.reserve(keys("a"), [0x72], "t").outcomes == (DUPLICATE,)
    assert window.reserve(keys("a"), [0x81], "t").outcomes == (CONFLICT,)


def test_an_id_twice_in_one_batch_counts_once() -> None:
    window: DedupeWindow[str] = DedupeWindow(30)
    answer = window.reserve(keys("aab"), [1, 1, 1], "mine")
    assert answer.outcomes.tolist() == [NEW, DUPLICATE, NEW]
    assert answer.waits == frozenset()
    assert window.reserve(keys("cc"), [0x10, 0x20], "mine").outcomes.tolist() == [NEW, CONFLICT]


def test_an_id_that_is_not_durable_yet_names_who_holds_it() -> None:
    window: DedupeWindow[str] = DedupeWindow(30)
    window.reserve(keys("a"), [1], "first")
    second = window.reserve(keys("ab"), [1, 1], "second")
    assert second.outcomes.tolist() == [DUPLICATE, NEW]
    assert second.waits == {"first"}
    window.confirm(keys("a"))
    assert window.reserve(keys("a"), [1], "third").waits == frozenset()


def test_a_conflict_with_an_id_that_is_not_durable_waits_too() -> None:
    window: DedupeWindow[str] = DedupeWindow(30)
    window.reserve(keys("a"), [0x10], "first")
    answer = window.reserve(keys("a"), [0x20], "second")
    assert answer.outcomes == (CONFLICT,)
    assert answer.waits == {"first"}


def test_a_released_id_is_new_again() -> None:
    window: DedupeWindow[str] = DedupeWindow(30)
    window.reserve(keys("a"), [1], "first")
    window.release(keys("a"))
    assert len(window) == 0
    assert store(window, ["a"], digest=2) == [NEW]


def test_ids_are_remembered_through_sealing_and_merging(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dedupe, "SEAL_AT", 50)
    window: DedupeWindow[str] = DedupeWindow(30)
    for batch in range(40):
        assert store(window, range(batch * 30, batch * 30 + 30)) == [NEW] * 30
        window.tidy(DAY)
    assert len(window) == 1200
    assert len(window._runs) <= 4, "small runs are merged"
    assert store(window, range(1200)) == [DUPLICATE] * 1200
    assert store(window, range(1190, 1202), digest=2) == [CONFLICT] * 10 + [NEW] * 2


def test_fingerprints_that_share_their_upper_half_stay_apart() -> None:
    upper = b"u" * 8
    lowers = [i.to_bytes(8, "little") for i in range(20)]
    window: DedupeWindow[str] = DedupeWindow(30)
    window.load(run_of({low + upper: i << 4 for i, low in enumerate(lowers)}, bucket_of(DAY)))
    asked = [low + upper for low in lowers]
    assert window.reserve(asked, range(0, 320, 16), "t").outcomes.tolist() == [DUPLICATE] * 20
    assert window.reserve([b"x" * 8 + upper], [0], "t").outcomes == (NEW,)


def test_the_window_drops_whole_buckets_of_days() -> None:
    window: DedupeWindow[str] = DedupeWindow(30)
    window.load(run_of({key("old"): 1}, bucket_of(DAY - 40)))
    window.load(run_of({key("kept"): 1}, bucket_of(DAY - 30)))
    window.load(run_of({key("newest"): 1}, bucket_of(DAY)))
    window.tidy(DAY)
    assert store(window, ["old", "kept"]) == [NEW, DUPLICATE]


def test_one_wrong_reading_of_the_clock_forgets_nothing() -> None:
    window: DedupeWindow[str] = DedupeWindow(30)
    window.load(run_of({key("a"): 16}, bucket_of(DAY)))
    assert window.tidy(DAY)
    assert not window.tidy(DAY + 365)
    assert window.tidy(DAY + 1)
    assert store(window, ["a"]) == [DUPLICATE]


def test_a_wrong_clock_at_the_start_forgets_nothing() -> None:
    window: DedupeWindow[str] = DedupeWindow(30)
    window.load(run_of({key("a"): 16}, bucket_of(DAY)))
    assert not window.tidy(DAY + 365)
    assert store(window, ["a"]) == [DUPLICATE]


def test_an_id_stored_under_a_clock_that_was_ahead_pushes_no_other_out() -> None:
    window: DedupeWindow[str] = DedupeWindow(30)
    window.load(run_of({key("a"): 16}, bucket_of(DAY)))
    window.load(run_of({key("ahead"): 16}, bucket_of(DAY + 365)))
    window.tidy(DAY)
    assert store(window, ["a", "ahead"]) == [DUPLICATE, DUPLICATE]


def test_ids_sealed_under_a_wrong_clock_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dedupe, "SEAL_AT", 1)
    for wrong in (DAY - 365, DAY + 365):
        window: DedupeWindow[str] = DedupeWindow(30)
        window.tidy(DAY)
        store(window, ["a"])
        window.tidy(wrong)
        window.tidy(DAY)
        assert store(window, ["a"]) == [DUPLICATE], wrong


def test_the_window_moves_with_the_days() -> None:
    window: DedupeWindow[str] = DedupeWindow(30)
    window.load(run_of({key("a"): 16}, bucket_of(DAY)))
    assert all(window.tidy(DAY + day) for day in range(60))
    assert store(window, ["a"]) == [NEW]


def readings(*days: int) -> list[bool]:
    steady = SteadyDay()
    return [steady.read(day) for day in days]


def test_a_jump_is_believed_when_the_clock_goes_on_from_there() -> None:
    assert readings(100, 103, 106, 107) == [True] * 4
    assert readings(100, 140, 140, 141, 142, 143) == [True, False, False, False, True, True]


def test_readings_that_do_not_agree_confirm_nothing() -> None:
    assert readings(100, 140, 180, 200, 201) == [True, False, False, False, False]
    assert readings(100, 140, 100, 142) == [True, False, True, False]
    assert readings(100, 142, 140, 141) == [True, False, False, False]


def test_a_step_back_is_harmless() -> None:
    steady = SteadyDay()
    steady.read(100)
    assert (steady.read(50), steady.day) == (True, 100)


def test_an_empty_batch_and_an_empty_run_are_harmless() -> None:
    window: DedupeWindow[str] = DedupeWindow(30)
    window.load(run_of({}, 1))
    assert window.reserve([], [], "t").outcomes.tolist() == []
    window.load(run_of({key("a"): 1}, bucket_of(DAY)))
    assert window.reserve([], [], "t").outcomes.tolist() == []


Batch = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 2)), max_size=8)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(Batch, st.booleans(), st.booleans()), max_size=12))
def test_the_window_answers_like_a_dictionary(
    batches: list[tuple[list[tuple[int, int]], bool, bool]],
) -> None:
    window: DedupeWindow[int] = DedupeWindow(30)
    model: dict[int, int] = {}
    for ticket, (batch, durable, seal) in enumerate(batches):
        expected = []
        held: dict[int, int] = {}
        for name, digest in batch:
            before = model.get(name, held.get(name))
            if before is None:
                held[name] = digest
                expected.append(NEW)
            else:
                expected.append(DUPLICATE if before == digest else CONFLICT)
        answer = window.reserve([key(n) for n, _ in batch], [d << 4 for _, d in batch], ticket)
        assert list(answer.outcomes) == expected
        (window.confirm if durable else window.release)(keys(list(held)))
        model |= held if durable else {}
        if seal and window._recent:
            recent = dict(window._recent)
            window._recent.clear()
            window.load(run_of(recent, bucket_of(DAY)))
            window.tidy(DAY)
    assert len(window) == len(model)
