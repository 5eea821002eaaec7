"""Names inside of what is asked: a report to measure a budget by, an experiment of a scene."""

import pytest
from touchstone.attribution.v1 import budget_pb2, scenario_service_pb2
from touchstone.attribution.v1 import economics_service_pb2 as economics_pb

from shared.errors import Code
from tests.security.contracts import methods
from tests.security.suite import running_suite

METHODS = {method.descriptor.name: method for method in methods()}


@pytest.fixture(scope="module")
def suite(tmp_path_factory):
    with running_suite(tmp_path_factory.mktemp("suite")) as running:
        yield running


def budget(project, links=()):
    line = budget_pb2.BudgetLine(channel="mail", measured=budget_pb2.MeasuredHistory())
    evidence = economics_pb.BudgetEvidence(
        report=f"projects/{project}/attributionReports/rep", links=links
    )
    return economics_pb.AllocateBudgetRequest(lines=[line], total=1, evidence=evidence)


def scene(project, metric_of=""):
    one = scenario_service_pb2.ScenarioInput(value=1)
    comparison = scenario_service_pb2.MeasuredComparison(
        experiment=f"projects/{project}/experiments/exp",
        variant="geheim-a",
        control="geheim-b",
        metric=f"projects/{metric_of or project}/metrics/met",
    )
    measured = scenario_service_pb2.ScenarioInput(comparison=comparison)
    product = scenario_service_pb2.ScenarioProduct(product="loan", users=measured, value=one)
    return scenario_service_pb2.ValueScenarioRequest(products=[product])


@pytest.mark.parametrize(("verb", "made"), [("AllocateBudget", budget), ("ValueScenario", scene)])
def test_what_is_another_tenants_looks_like_what_is_not_there(suite, verb, made):
    theirs = suite.call(METHODS[verb], made("alpha"), suite.beta).error
    nobodys = suite.call(METHODS[verb], made("nowhere"), suite.beta).error

    assert (theirs.code, theirs.reason) == (Code.NOT_FOUND, "RESOURCE_NOT_FOUND")
    assert nobodys.code is theirs.code
    assert nobodys.message.replace("nowhere", "alpha") == theirs.message


def test_a_metric_of_another_tenant_is_not_found(suite):
    error = suite.call(METHODS["ValueScenario"], scene("beta", metric_of="alpha"), suite.beta).error

    assert error.code is Code.NOT_FOUND
