"""The proportions of what was assigned."""

import numpy as np
import pytest
from scipy.stats import chisquare

from services.assignment.application.assigned_sample import (
    EVERY,
    MOST_EXPERIMENTS,
    MOST_UNITS,
    AssignedSample,
    served_by_split,
)
from services.assignment.domain.sample_ratio import sample_ratio

HALVES = [("control", 5000), ("treatment", 5000)]


def test_it_is_the_chi_square_test_of_scipy():
    weights = [("a", 2000), ("b", 3000), ("c", 5000)]
    counts = {"a": 190, "b": 320, "c": 490}
    found = sample_ratio(weights, counts)
    wanted = chisquare([190, 320, 490], [200, 300, 500])
    assert (found.statistic, found.p_value) == pytest.approx((wanted.statistic, wanted.pvalue))
    assert [v.expected for v in found.variants] == [200, 300, 500]


def test_few_units_tell_nothing():
    found = sample_ratio(HALVES, {"control": 9})
    assert (found.statistic, found.p_value) == (None, None)
    assert found.variants[0].units == 9


def test_a_unit_in_a_variant_that_nobody_should_get_is_a_failure():
    weights = [("a", 5000), ("b", 5000), ("off", 0)]
    assert sample_ratio(weights, {"a": 500, "b": 500, "off": 1}).p_value == 0.0


def test_a_variant_of_weight_0_takes_no_part():
    weights = [("a", 5000), ("b", 5000), ("off", 0)]
    assert sample_ratio(weights, {"a": 500, "b": 500}).p_value == pytest.approx(1.0)


def test_false_alarms_are_as_frequent_as_promised():
    numbers = np.random.default_rng(7)
    draws = numbers.binomial(2_000, 0.5, 2_000)
    alarms = [sample_ratio(HALVES, {"control": int(n), "treatment": 2_000 - int(n)}) for n in draws]
    share = np.mean([found.p_value < 0.05 for found in alarms if found.p_value is not None])
    assert 0.035 < share < 0.065


def test_a_unit_counts_once_however_often_it_is_assigned():
    sample = AssignedSample()
    for _ in range(3):
        sample.note("p", ("exp", 4), [(b"u1", "a"), (b"u2", "b"), (b"u1", "a")])
    found = sample.of("p", "exp")
    assert (found.config_version, dict(found.counts)) == (4, {"a": 1, "b": 1})
    assert sample.of("other", "exp").config_version == 0


def test_a_new_version_begins_anew_and_an_old_one_is_forgotten():
    sample = AssignedSample()
    sample.note("p", ("exp", 4), [(b"u1", "a")])
    sample.note("p", ("exp", 5), [(b"u2", "b")])
    sample.note("p", ("exp", 4), [(b"u3", "a")])
    assert dict(sample.of("p", "exp").counts) == {"b": 1}


def test_a_flood_of_units_is_bounded():
    sample = AssignedSample()
    units = [(b"u%d" % n, "a") for n in range(MOST_UNITS + 500)]
    sample.note("p", ("exp", 1), units)
    assert sample.of("p", "exp").counts["a"] == MOST_UNITS


def test_of_too_many_experiments_the_one_noted_longest_ago_is_forgotten():
    sample = AssignedSample()
    for n in range(MOST_EXPERIMENTS):
        sample.note("p", (f"e{n}", 1), [(b"u1", "a")])
    sample.note("p", ("e0", 1), [(b"u2", "a")])
    sample.note("p", ("new", 1), [(b"u1", "a")])
    assert sample.of("p", "new").counts == {"a": 1}
    assert sample.of("p", "e0").counts == {"a": 2}
    assert sample.of("p", "e1").config_version == 0


def test_one_call_of_many_is_looked_at():
    sample = AssignedSample()
    assert sum(sample.due() for _ in range(10 * EVERY)) == 10


def test_units_without_a_variant_are_left_out():
    found = list(served_by_split([b"u1", None, b"u3"], ["a", "b", None]))
    assert found == [(b"u1", "a")]
