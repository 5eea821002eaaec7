"""Standardized differences between variants."""

import numpy as np
import pytest

from services.assignment.domain.balance import differences


def test_a_difference_is_that_of_the_definition():
    covariates = np.array([[1.0], [3.0], [2.0], [6.0], [4.0]])
    arms = np.array([0, 0, 1, 1, -1])
    # Means 2 and 4, variances 2 and 8: 2 / sqrt(5).
    assert differences(covariates, arms, 2) == pytest.approx([2 / np.sqrt(5)])


def test_a_large_common_part_swallows_no_difference():
    covariates = np.array([[1.0], [3.0], [2.0], [6.0]]) + 1e9
    assert differences(covariates, np.array([0, 0, 1, 1]), 2) == pytest.approx([2 / np.sqrt(5)])


def test_the_worst_pair_counts():
    covariates = np.array([[0.0], [2.0], [0.0], [2.0], [10.0], [12.0]])
    found = differences(covariates, np.array([0, 0, 1, 1, 2, 2]), 3)
    assert found == pytest.approx([10 / np.sqrt(2)])


def test_what_cannot_differ_differs_by_nothing_and_what_always_differs_by_infinity():
    covariates = np.array([[1.0, 1.0], [1.0, 1.0], [1.0, 2.0], [1.0, 2.0]])
    assert differences(covariates, np.array([0, 0, 1, 1]), 2).tolist() == [0.0, np.inf]


def test_a_variant_without_units_is_compared_with_nothing():
    covariates = np.array([[1.0], [2.0]])
    assert differences(covariates, np.array([0, 0]), 2).tolist() == [0.0]
