"""Buckets are uniform, and two salts are independent. Everything is fixed, so nothing flickers."""

import numpy as np
import pytest
from scipy import stats
from touchstone_assignment.bucketing import HashVersion, bucketer
from touchstone_assignment.bucketing.bucketer import MAX_BUCKETS

UNITS = [b"user-%d" % number for number in range(200_000)]
# 24 tests below this level would reject a perfect hash about once in 40,000 runs of new salts.
LEVEL = 1e-6


@pytest.mark.parametrize("version", HashVersion)
@pytest.mark.parametrize("salt", ["layer/default-user", "split/checkout", "a"])
def test_10000_buckets_are_uniform(version: HashVersion, salt: str) -> None:
    bucket = bucketer(version, salt, 10_000)
    counts = np.bincount([bucket(unit) for unit in UNITS], minlength=10_000)
    assert stats.chisquare(counts).pvalue > LEVEL
    assert counts.min() > 0


@pytest.mark.parametrize("version", HashVersion)
@pytest.mark.parametrize(
    ("first", "second"),
    [("layer/default-user", "split/checkout"), ("split/exp-1", "split/exp-2"), ("a", "b")],
)
def test_two_salts_are_independent(version: HashVersion, first: str, second: str) -> None:
    one, two = bucketer(version, first, 20), bucketer(version, second, 20)
    table = np.zeros((20, 20))
    for unit in UNITS:
        table[one(unit), two(unit)] += 1
    assert stats.chi2_contingency(table).pvalue > LEVEL


def test_one_salt_used_twice_would_fail_the_independence_test() -> None:
    one = bucketer(HashVersion.FLAGD_V2, "same", 20)
    table = np.zeros((20, 20))
    for unit in UNITS[:20_000]:
        table[one(unit), one(unit)] += 1
    assert stats.chi2_contingency(table).pvalue < LEVEL


@pytest.mark.parametrize("buckets", [0, -1, MAX_BUCKETS + 1])
def test_a_number_of_buckets_outside_the_range_is_refused(buckets: int) -> None:
    with pytest.raises(ValueError, match=str(buckets)):
        bucketer(HashVersion.FLAGD_V2, "s", buckets)
