"""Quantiles of Student's t against scipy's."""

import numpy as np
import pytest
from scipy import special
from touchstone_statistics.student import FARTHEST, MANY, upper_quantile


def test_the_expansion_is_the_inverse_where_it_is_used() -> None:
    rng = np.random.default_rng(1)
    dof = MANY * 10 ** rng.uniform(0, 5, 5_000)
    tail = special.ndtr(-rng.uniform(-FARTHEST, FARTHEST, 5_000))
    found = upper_quantile(dof, tail)
    assert found == pytest.approx(-special.stdtrit(dof, tail), rel=1e-12, abs=1e-12)
    low = found > 0
    assert special.stdtr(dof, -found)[low] == pytest.approx(tail[low], rel=1e-12)


def test_few_degrees_of_freedom_and_far_tails_are_inverted() -> None:
    dof = np.array([1.0, 3.0, MANY - 1, 1e6])
    assert upper_quantile(dof, 1e-12) == pytest.approx(-special.stdtrit(dof, 1e-12), rel=1e-15)
    assert upper_quantile(np.array(2.0), 0.025) == pytest.approx(4.302652729911275)
