"""Families of comparisons against published examples, statsmodels and their own promises."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import special
from statsmodels.stats.multitest import multipletests
from touchstone_statistics.anytime import Anytime
from touchstone_statistics.contrast import Contrast
from touchstone_statistics.estimand import Estimate
from touchstone_statistics.family import (
    Correction,
    Method,
    Role,
    correct,
    correct_by_role,
    correct_evidence,
    preferential_weights,
    weighted_bonferroni,
)
from touchstone_statistics.gaps import Gap
from touchstone_statistics.inference import Fixed

# Benjamini and Hochberg (1995), section 4: thrombolysis after acute myocardial infarction.
NEUHAUS = [
    *(0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344),
    *(0.0459, 0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0000),
]
NAMES = {
    Method.BONFERRONI: "bonferroni",
    Method.HOLM: "holm",
    Method.HOCHBERG: "simes-hochberg",
    Method.BENJAMINI_HOCHBERG: "fdr_bh",
    Method.BENJAMINI_YEKUTIELI: "fdr_by",
}
STEPWISE = list(NAMES)


def none(count: int) -> np.ndarray:
    return np.zeros(count, dtype=np.uint8)


def test_the_example_of_benjamini_and_hochberg() -> None:
    bh = correct(NEUHAUS, none(15), Correction(Method.BENJAMINI_HOCHBERG))
    bonferroni = correct(NEUHAUS, none(15), Correction(Method.BONFERRONI))
    hochberg = correct(NEUHAUS, none(15), Correction(Method.HOCHBERG))
    assert bh.rejected.sum() == 4
    assert bonferroni.rejected.sum() == 3
    assert hochberg.rejected.sum() == 3
    assert np.unique(bh.alpha) == pytest.approx([4 * 0.05 / 15])


@pytest.mark.parametrize("method", STEPWISE)
def test_adjusted_p_values_match_statsmodels(method: Method) -> None:
    rng = np.random.default_rng(1)
    for count in (1, 2, 7, 40):
        p = rng.beta(0.4, 1.0, count)
        _, expected, _, _ = multipletests(p, 0.05, method=NAMES[method])
        ours = correct(p, none(count), Correction(method))
        np.testing.assert_allclose(ours.p_value, expected, rtol=1e-12)


def test_families_of_a_batch_are_apart_and_gaps_are_not_counted() -> None:
    rng = np.random.default_rng(2)
    p = rng.beta(0.3, 1.0, (3, 4, 6))
    gap = np.zeros(p.shape, dtype=np.uint8)
    gap[1, 2, [0, 5]] = Gap.ZERO_VARIANCE
    p[1, 2, 0] = np.nan
    ours = correct(p, gap, Correction(Method.HOLM))
    alone = correct(p[1, 2, 1:5], none(4), Correction(Method.HOLM))
    np.testing.assert_array_equal(ours.p_value[1, 2, 1:5], alone.p_value)
    assert not ours.rejected[1, 2, [0, 5]].any()
    assert ours.gap[1, 2, 0] == Gap.ZERO_VARIANCE
    assert np.isfinite(ours.p_value).all()


@pytest.mark.parametrize("method", list(Method))
def test_a_family_without_comparisons_is_not_an_error(method: Method) -> None:
    empty = correct(np.ones(2), np.full(2, Gap.NO_UNITS, dtype=np.uint8), Correction(method))
    assert not empty.rejected.any()
    assert correct(np.ones((3, 0)), none(0), Correction(method)).p_value.shape == (3, 0)


p_values = st.lists(
    st.one_of(st.floats(1e-12, 1.0), st.floats(1e-4, 0.06)), min_size=1, max_size=12
)


@settings(max_examples=300)
@given(p_values, st.sampled_from(list(Method)), st.sampled_from([0.01, 0.05, 0.2]))
def test_the_level_of_an_interval_agrees_with_the_decision(
    p: list[float], method: Method, alpha: float
) -> None:
    ours = correct(p, none(len(p)), Correction(method, alpha))
    assume((np.abs(ours.p_value / alpha - 1) > 1e-9).all())
    np.testing.assert_array_equal(np.asarray(p) < ours.alpha, ours.rejected)


@settings(max_examples=200)
@given(p_values)
def test_methods_reject_in_the_known_order(p: list[float]) -> None:
    adjusted = {m: correct(p, none(len(p)), Correction(m)).p_value for m in Method}
    near = 1 + 1e-12
    assert (adjusted[Method.HOLM] <= adjusted[Method.BONFERRONI] * near).all()
    assert (adjusted[Method.HOCHBERG] <= adjusted[Method.HOLM] * near).all()
    assert (adjusted[Method.BENJAMINI_HOCHBERG] <= adjusted[Method.HOCHBERG] * near).all()
    yekutieli = adjusted[Method.BENJAMINI_YEKUTIELI]
    assert (adjusted[Method.BENJAMINI_HOCHBERG] <= yekutieli * near).all()


@settings(max_examples=100)
@given(st.lists(st.floats(-5, 5), min_size=2, max_size=6), st.sampled_from(list(Method)))
def test_intervals_read_at_the_level_agree_with_the_decision(
    differences: list[float], method: Method
) -> None:
    shape = (len(differences),)
    none_yet, ones = none(len(differences)), np.ones(shape)
    control = Estimate(100 * ones, 0.5 * ones, 900 * ones, none_yet, none_yet)
    treatment = Estimate(100 + np.asarray(differences), 0.5 * ones, 800 * ones, none_yet, none_yet)
    contrast = Contrast(control, treatment)
    reading = Fixed().read(contrast)
    ours = correct(reading.p_value, reading.gap, Correction(method, 0.1))
    assume((np.abs(ours.p_value / 0.1 - 1) > 1e-6).all())
    again = Fixed(ours.alpha).read(contrast)
    np.testing.assert_array_equal(again.difference.excludes(0.0), ours.rejected)
    np.testing.assert_array_equal(again.lift.excludes(0.0), ours.rejected)


def test_preferential_weights_follow_the_published_formula() -> None:
    # Two treatments, one primary of five metrics: comparisons are metrics x treatments.
    primary = np.array([True] * 2 + [False] * 8)
    weights = preferential_weights(primary, none(10), 0.7)
    np.testing.assert_allclose(weights[:2], 0.7 / 2)
    np.testing.assert_allclose(weights[2:], 0.3 / (2 * 4))
    assert weights.sum() == pytest.approx(1.0)
    p = np.full(10, 0.01)
    ours = weighted_bonferroni(p, none(10), weights, 0.05)
    np.testing.assert_array_equal(ours.rejected, primary)
    np.testing.assert_allclose(ours.alpha[0], 0.05 * 0.35)


def test_a_group_that_is_missing_leaves_its_level_to_the_other() -> None:
    gap = np.array([Gap.NO_UNITS, 0, 0], dtype=np.uint8)
    primary = np.array([True, False, False])
    np.testing.assert_allclose(preferential_weights(primary, gap, 0.7), [0, 0.5, 0.5])
    np.testing.assert_allclose(preferential_weights(~primary, gap, 0.7), [0, 0.5, 0.5])


def test_roles_are_families_of_their_own() -> None:
    p = np.array([[0.04, 0.03, 0.02, 0.04], [0.5, 0.001, 0.5, 0.2]])
    roles = [Role.PRIMARY, Role.SECONDARY, Role.SECONDARY, Role.GUARDRAIL]
    ours = correct_by_role(
        p,
        none(4),
        roles,
        {
            Role.PRIMARY: Correction(Method.BONFERRONI),
            Role.SECONDARY: Correction(Method.BONFERRONI),
            Role.GUARDRAIL: Correction(Method.NONE, 0.1),
        },
    )
    np.testing.assert_allclose(ours.p_value[0], [0.04, 0.06, 0.04, 0.04])
    np.testing.assert_array_equal(ours.rejected[0], [True, False, True, True])
    np.testing.assert_allclose(ours.alpha[1], [0.05, 0.025, 0.025, 0.1])
    with pytest.raises(ValueError, match="no entry for the role guardrail"):
        correct_by_role(
            p,
            none(4),
            roles,
            {Role.PRIMARY: Correction(Method.HOLM), Role.SECONDARY: Correction(Method.HOLM)},
        )


def e_bh_by_definition(e: np.ndarray, alpha: float) -> np.ndarray:
    """Reject the k* largest, k* = max {k: k e_(k) / m > 1 / alpha}, by trying every k."""
    order = np.argsort(-e)
    best = max(
        (k for k in range(1, len(e) + 1) if k * e[order[k - 1]] / len(e) > 1 / alpha), default=0
    )
    rejected = np.zeros(len(e), dtype=bool)
    rejected[order[:best]] = True
    return rejected


def test_e_bh_is_its_definition_and_keeps_huge_evidence() -> None:
    rng = np.random.default_rng(3)
    for _ in range(200):
        log_e = rng.normal(1.5, 3.0, 9)
        ours = correct_evidence(log_e, none(9), 0.05)
        np.testing.assert_array_equal(ours.rejected, e_bh_by_definition(np.exp(log_e), 0.05))
        np.testing.assert_array_equal(log_e > -np.log(ours.alpha), ours.rejected)
    assert correct_evidence([5000.0, -5000.0], none(2), 0.05).rejected.tolist() == [True, False]


@settings(max_examples=60)
@given(st.lists(st.floats(-7, 7), min_size=1, max_size=6))
def test_confidence_sequences_read_at_the_level_agree_with_e_bh(differences: list[float]) -> None:
    ones, missing = np.ones(len(differences)), none(len(differences))
    control = Estimate(100 * ones, 0.5 * ones, 5000 * ones, missing, missing)
    treatment = Estimate(100 + np.asarray(differences), 0.5 * ones, 5000 * ones, missing, missing)
    contrast = Contrast(control, treatment)
    evidence = Anytime(10_000.0, tuned_level=0.05).read(contrast).log_e
    assert evidence is not None
    ours = correct_evidence(evidence, missing, 0.05)
    assume((np.abs(ours.p_value / 0.05 - 1) > 1e-6).all())
    again = Anytime(10_000.0, ours.alpha, tuned_level=0.05).read(contrast)
    np.testing.assert_array_equal(again.difference.excludes(0.0), ours.rejected)


def test_bh_intervals_of_the_selected_miss_as_seldom_as_promised() -> None:
    # 4,000 families of 20 independent comparisons, half of them null: the false coverage rate.
    rng = np.random.default_rng(4)
    truth = np.repeat([0.0, 2.5], 10)
    z = rng.normal(truth, 1.0, (4000, 20))
    ours = correct(2 * special.ndtr(-np.abs(z)), none(20), Correction(Method.BENJAMINI_HOCHBERG))
    missed = np.abs(z - truth) > -special.ndtri(ours.alpha / 2)
    share = (missed & ours.rejected).sum(axis=1) / np.maximum(ours.rejected.sum(axis=1), 1)
    naive = np.abs(z - truth) > 1.96
    unadjusted = (naive & ours.rejected).sum(axis=1) / np.maximum(ours.rejected.sum(axis=1), 1)
    assert share.mean() < 0.05 + 4 * share.std() / np.sqrt(4000)
    assert unadjusted.mean() > 0.06


@pytest.mark.parametrize("alpha", [0.0, 0.6, float("nan")])
def test_a_senseless_level_is_refused(alpha: float) -> None:
    with pytest.raises(ValueError, match="alpha is"):
        Correction(Method.HOLM, alpha)


def test_senseless_weights_are_refused() -> None:
    with pytest.raises(ValueError, match="weights add up to"):
        weighted_bonferroni([0.1, 0.2], none(2), np.array([0.7, 0.7]), 0.05)
    with pytest.raises(ValueError, match="share is 1"):
        preferential_weights(np.array([True]), none(1), 1.0)
