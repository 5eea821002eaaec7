"""Analysis plans by themselves: their default rule, and what looks fix."""

import datetime as dt
from dataclasses import replace
from typing import Any

import pytest

from services.results.adapters.plan_document import plan_of, text_of
from services.results.domain.analysis_plan import (
    FIXED_BY_LOOKS,
    AlphaSpending,
    AnalysisMethod,
    AnalysisPlan,
    MetricPlan,
    StoredPlan,
    changed,
)
from services.results.domain.clustering import Switchback
from services.results.domain.observation import MultipleExposures
from shared.errors import Code, DomainError

NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
OTHERS: dict[str, Any] = {
    "method": AnalysisMethod.FIXED,
    "alpha": 0.1,
    "spending": AlphaSpending.POCOCK,
    "spending_parameter": 1.0,
    "planned_units": 7,
    "multiple_exposures": MultipleExposures.FIRST,
    "cluster_unit_type": "shop",
    "cluster_field": "source",
    "switchback": Switchback(dt.timedelta(hours=1)),
}


def test_the_default_rule_follows_from_what_is_planned() -> None:
    assert AnalysisPlan().rule is AnalysisMethod.ANYTIME
    assert AnalysisPlan(planned_units=10).rule is AnalysisMethod.GROUP_SEQUENTIAL
    chosen = AnalysisPlan(method=AnalysisMethod.FIXED, planned_units=10)
    assert chosen.rule is AnalysisMethod.FIXED


@pytest.mark.parametrize("name", FIXED_BY_LOOKS)
def test_after_a_look_its_price_cannot_change(name: str) -> None:
    new = replace(AnalysisPlan(), **{name: OTHERS[name]})
    assert changed(StoredPlan(), new, NOW).version == 1
    with pytest.raises(DomainError, match=name) as caught:
        changed(StoredPlan(looked_at=True), new, NOW)
    assert (caught.value.code, caught.value.reason) == (Code.FAILED_PRECONDITION, "PLAN_FIXED")


def test_after_a_look_the_rest_may_change() -> None:
    new = AnalysisPlan(metrics=(MetricPlan("m"),), dimensions=("source",), power=0.9)
    assert changed(StoredPlan(looked_at=True), new, NOW).plan == new


def test_a_metric_without_a_plan_of_its_own_has_its_definition() -> None:
    plan = AnalysisPlan(metrics=(MetricPlan("a", margin=0.1),))
    assert plan.of_metric("a").margin == 0.1
    assert plan.of_metric("b") == MetricPlan("b")


def test_the_kept_document_gives_the_plan_again() -> None:
    for plan in (AnalysisPlan(), AnalysisPlan(planned_end=NOW, metrics=(MetricPlan("a"),))):
        assert plan_of(text_of(plan)) == plan
    assert plan_of("{}") == AnalysisPlan()
