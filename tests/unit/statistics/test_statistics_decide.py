"""The decision rule over all combinations of its inputs, against a second wording of it."""

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from touchstone_statistics.decide import (
    Code,
    MetricVerdict,
    Reason,
    Situation,
    Verdict,
    decide,
    levels,
)
from touchstone_statistics.family import Role
from touchstone_statistics.gaps import Gap

BOOLEANS = (False, True)


def success(**facts: Any) -> MetricVerdict:
    return MetricVerdict("orders", Role.PRIMARY, **{"holds": True, **facts})


def guardrail(**facts: Any) -> MetricVerdict:
    return MetricVerdict("latency", Role.GUARDRAIL, **{"holds": True, **facts})


def secondary(**facts: Any) -> MetricVerdict:
    return MetricVerdict("clicks", Role.SECONDARY, **{"holds": True, **facts})


def every_metric(make: Callable[..., MetricVerdict], passing: str) -> list[MetricVerdict]:
    return [
        make(**{"holds": h, passing: p, "deteriorated": d, "powered": w, "futile": f, "gap": g})
        for h, p, d, w, f, g in itertools.product(
            BOOLEANS, BOOLEANS, BOOLEANS, BOOLEANS, BOOLEANS, (Gap.NONE, Gap.ZERO_VARIANCE)
        )
    ]


def as_told(s: MetricVerdict, g: MetricVerdict, situation: Situation) -> Verdict:
    """The rule for one success metric and one guardrail, told in the order of a conversation."""
    if situation.sample_ratio_alert:
        return Verdict.CANNOT_TELL
    known = [m for m in (s, g) if m.gap is Gap.NONE and m.holds]
    if any(m.deteriorated for m in known):
        return Verdict.ROLL_BACK
    won, safe = s in known and s.superior, g in known and g.non_inferior
    if won and safe:
        return Verdict.SHIP
    in_the_way = [m for m, passed in ((s, won), (g, safe)) if not passed and m in known]
    if any(m.futile for m in in_the_way):
        return Verdict.STOP
    if not situation.at_end:
        return Verdict.KEEP_RUNNING
    return Verdict.STOP if any(m.powered for m in in_the_way) else Verdict.CANNOT_TELL


def test_every_combination_of_a_success_metric_and_a_guardrail() -> None:
    situations = [Situation(e, a) for e in BOOLEANS for a in BOOLEANS]
    seen = set()
    for s, g, situation in itertools.product(
        every_metric(success, "superior"), every_metric(guardrail, "non_inferior"), situations
    ):
        decision = decide("blue", [s, g], situation)
        assert decision.verdict is as_told(s, g, situation), (s, g, situation)
        assert decision.reasons
        seen.add(decision.verdict)
    assert seen == set(Verdict)


def test_it_ships_with_one_superior_metric_of_several_and_says_why() -> None:
    metrics = [
        success(superior=True, numbers=(("p_value", 0.001), ("lift", 0.04))),
        MetricVerdict("revenue", Role.PRIMARY, holds=True),
        guardrail(non_inferior=True),
        secondary(gap=Gap.NO_UNITS),
    ]
    decision = decide("blue", metrics, Situation(at_end=True))
    assert decision.verdict is Verdict.SHIP
    assert decision.reasons == (
        Reason(Code.SUPERIOR, "blue", "orders", (("p_value", 0.001), ("lift", 0.04))),
        Reason(Code.NON_INFERIOR, "blue", "latency"),
        Reason(Code.METRIC_MISSING, "blue", "clicks"),
    )


def test_a_fixed_horizon_never_ships_early_and_a_sequential_test_may() -> None:
    for holds, verdict in ((False, Verdict.KEEP_RUNNING), (True, Verdict.SHIP)):
        decision = decide("b", [success(holds=holds, superior=True)], Situation(at_end=False))
        assert decision.verdict is verdict
    early = decide("b", [success(holds=False, superior=True)], Situation(at_end=False))
    assert early.reasons == (Reason(Code.NOT_AT_HORIZON, "b", "orders"),)


def test_harm_in_any_metric_rolls_back_even_what_would_ship() -> None:
    metrics = [success(superior=True), guardrail(non_inferior=True), secondary(deteriorated=True)]
    decision = decide("b", metrics, Situation(at_end=False))
    assert decision.verdict is Verdict.ROLL_BACK
    assert decision.reasons == (Reason(Code.DETERIORATED, "b", "clicks"),)


def test_nothing_is_read_from_data_that_cannot_be_trusted() -> None:
    metrics = [success(superior=True), secondary(deteriorated=True)]
    situation = Situation(True, sample_ratio_alert=True, failed_checks=("imbalance",))
    decision = decide("b", metrics, situation)
    assert decision.verdict is Verdict.CANNOT_TELL
    assert [reason.code for reason in decision.reasons] == [
        Code.SAMPLE_RATIO_MISMATCH,
        Code.QUALITY_CHECK_FAILED,
    ]
    assert decision.reasons[1].metric == "imbalance"


def test_all_success_metrics_must_be_hopeless_before_it_stops() -> None:
    other = MetricVerdict("revenue", Role.PRIMARY, holds=True, powered=False)
    decision = decide("b", [success(), other], Situation(at_end=True))
    assert decision.verdict is Verdict.CANNOT_TELL
    assert [r.code for r in decision.reasons] == [Code.NOT_SUPERIOR, Code.UNDERPOWERED]
    assert decide("b", [success()], Situation(at_end=True)).verdict is Verdict.STOP


def test_without_a_success_metric_there_is_nothing_to_ship_for() -> None:
    decision = decide("b", [guardrail(non_inferior=True)], Situation(at_end=True))
    assert decision.verdict is Verdict.CANNOT_TELL
    assert decision.reasons == (Reason(Code.NO_SUCCESS_METRIC, "b"),)
    assert decide("b", [], Situation(at_end=True)).verdict is Verdict.CANNOT_TELL


def test_levels_follow_the_published_rule() -> None:
    roles = [Role.PRIMARY] * 2 + [Role.GUARDRAIL] * 3 + [Role.SECONDARY] * 5
    one = levels(roles, alpha=0.05, power=0.8)
    assert one.superiority == pytest.approx(0.025)
    assert one.non_inferiority == pytest.approx(0.05)
    assert one.deterioration == pytest.approx(0.005)
    assert one.power == pytest.approx(0.95)
    two = levels(roles, treatments=2, alpha=0.05, power=0.8)
    assert two.superiority == pytest.approx(0.0125)
    assert two.non_inferiority == pytest.approx(0.025)


@pytest.mark.parametrize(
    ("treatments", "alpha", "power"), [(0, 0.05, 0.8), (1, 0, 0.8), (1, 0.05, 1)]
)
def test_senseless_levels_are_refused(treatments: int, alpha: float, power: float) -> None:
    with pytest.raises(ValueError, match="must be"):
        levels([Role.PRIMARY], treatments, alpha, power)
