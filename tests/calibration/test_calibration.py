"""The promises hold in a short simulation, and the published table is about these promises."""

import math

import pytest

from tests.calibration.promises import LONG, Promise, registry
from tests.calibration.table import number_of, published

PROMISES = registry()


@pytest.mark.parametrize("promise", PROMISES, ids=lambda p: f"{p.number} {p.what}")
def test_promise_is_kept(promise: Promise) -> None:
    repetitions = promise.repetitions(full=False)
    figure = promise.simulate(repetitions)
    assert promise.kept(figure, promise.room(repetitions)), f"{figure} for {promise.allowed}"


def test_the_table_publishes_every_promise_with_its_range_and_a_figure_in_it() -> None:
    rows = published()
    assert list(rows) == [(str(p.number), p.what) for p in PROMISES], "run: make calibration"
    for promise in PROMISES:
        _, _, allowed, found, repetitions = rows[str(promise.number), promise.what]
        assert allowed == promise.allowed
        assert promise.kept(number_of(found)), promise.what
        assert int(repetitions.replace(",", "")) == promise.repetitions(full=True)


def test_a_figure_outside_of_the_range_breaks_its_promise() -> None:
    promise = Promise(0, "a rate of errors", 0.0, 0.05, lambda _: 0.06)
    assert not promise.kept(promise.simulate(LONG))
    assert not promise.kept(0.08, promise.room(2000))
    assert promise.kept(0.06, promise.room(2000))
    exact = Promise(0, "an error", 0.0, 1e-9, lambda _: 2e-9, share=False)
    assert not exact.kept(exact.simulate(1), exact.room(1))
    assert not exact.kept(math.nan)
