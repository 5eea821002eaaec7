"""`touchstone results`: the decision in a line, and each check of health in a row."""

from touchstone.results.v1 import analysis_plan_pb2, health_pb2
from touchstone.results.v1 import results_pb2 as pb

from services.cli.commands.results import checks, decisions


def test_a_decision_is_a_line_with_its_method_and_reasons() -> None:
    results = pb.Results(method=analysis_plan_pb2.ANALYSIS_METHOD_GROUP_SEQUENTIAL)
    reasons = [pb.DecisionReason(message="visit is worse"), pb.DecisionReason(message="so is buy")]
    results.decisions.add(variant="green", verdict=pb.VERDICT_ROLL_BACK, reasons=reasons)
    results.decisions.add(variant="blue", verdict=pb.VERDICT_KEEP_RUNNING)
    assert list(decisions(results)) == [
        "green: roll back, read by the method group sequential: visit is worse; so is buy",
        "blue: keep running, read by the method group sequential: nothing was measured",
    ]


def test_a_check_is_a_row_in_the_order_of_the_service() -> None:
    found = health_pb2.Health()
    found.checks.add(name="skew", status=health_pb2.HEALTH_STATUS_ALERT, message="too skewed")
    found.checks.add(name="freshness", status=health_pb2.HEALTH_STATUS_OK, message="3 s old")
    assert list(checks(found)) == [
        ("skew", "alert", "too skewed"),
        ("freshness", "ok", "3 s old"),
    ]
