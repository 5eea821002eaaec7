"""The results service over its contract: a real server, store and tables, and generated clients.

The assignment service is played by a servicer of its contract on a port of its own.
"""

import asyncio
import datetime as dt
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.struct_pb2 import Value
from scipy import stats
from touchstone.common.v1 import filter_pb2
from touchstone.results.v1 import analysis_plan_pb2, metric_pb2, results_pb2, results_service_pb2

from services.results.settings import Settings
from shared.errors import Code, DomainError
from shared.lake.watermark import ConsistencyToken
from shared.server.rules import rule_of
from shared.server.status import from_rpc_error
from shared.version import VERSION
from tests.contract.results_world import ARMS, NOW, PROJECT, World, events, open_world

VISIT = metric_pb2.Metric(kind=metric_pb2.METRIC_KIND_PROPORTION, event_name="visit")
FIXED = analysis_plan_pb2.ANALYSIS_METHOD_FIXED
SPEND = metric_pb2.Metric(kind=metric_pb2.METRIC_KIND_MEAN, event_name="purchase")


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as found:
        yield found


def simulated(seed: int = 5) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        variant: rng.lognormal(3, 1, units) * (rng.random(units) < 0.3)
        for variant, units in ARMS.items()
    }


async def test_an_experiment_shows_the_metrics_that_it_is_judged_by(world: World) -> None:
    world.write(events(simulated()))
    visits = await world.owner.define("visits", VISIT)
    spend = await world.owner.define("spend", SPEND)
    world.played.experiment.metrics.append(spend.name)
    assert [m.metric for m in (await world.viewer.results()).metrics] == [spend.name]
    asked = await world.viewer.results(metrics=[visits.name])
    assert [m.metric for m in asked.metrics] == [visits.name]
    world.played.experiment.metrics.append(f"{PROJECT}/metrics/gone")
    error = await world.viewer.refused("GetResults", experiment=f"{PROJECT}/experiments/checkout")
    assert error.code is Code.NOT_FOUND
    assert "gone" in error.message


async def test_every_number_equals_scipys(world: World) -> None:
    values = simulated()
    token = world.write(events(values))
    await world.owner.define("visits", VISIT)
    await world.owner.define("spend", SPEND)
    results = await world.viewer.results(consistency_token=token, methods=[FIXED])

    assert [(a.variant, a.units, a.control) for a in results.arms] == [
        ("green", 410, False),
        ("control", 400, True),
        ("blue", 390, False),
    ]
    assert [m.metric for m in results.metrics] == [
        f"{PROJECT}/metrics/spend",
        f"{PROJECT}/metrics/visits",
    ]
    for metric, column in zip(results.metrics, (values, indicator(values)), strict=True):
        check_arms(metric, column)
        for comparison in metric.comparisons:
            check_comparison(comparison, column[comparison.variant], column["control"])
    assert not results.metrics[0].comparisons[0].HasField("beta_binomial_posterior")
    observed = [a.units for a in results.arms]
    expected = np.array([a.weight for a in results.arms]) / 10_000 * sum(observed)
    assert results.sample_ratio.p_value.value == pytest.approx(
        stats.chisquare(observed, expected).pvalue, rel=1e-9
    )
    assert results.sample_ratio.degrees_of_freedom == 2
    assert not results.sample_ratio.alert


def indicator(values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {variant: (amounts > 0).astype(float) for variant, amounts in values.items()}


def check_arms(metric: results_pb2.MetricResults, column: dict[str, np.ndarray]) -> None:
    for arm in metric.arms:
        rows = column[arm.variant]
        assert arm.sum.value == pytest.approx(rows.sum(), rel=1e-12)
        assert arm.mean.value == pytest.approx(rows.mean(), rel=1e-12)
        assert arm.variance.value == pytest.approx(rows.var(ddof=1), rel=1e-10)
        assert arm.std_err.value == pytest.approx(stats.sem(rows), rel=1e-10)
    assert sum(a.probability_best.value for a in metric.arms) == pytest.approx(1.0, abs=1e-12)


def check_comparison(
    comparison: results_pb2.Comparison, treated: np.ndarray, control: np.ndarray
) -> None:
    welch = stats.ttest_ind(treated, control, equal_var=False)
    interval = welch.confidence_interval(0.95)
    (fixed,) = comparison.readings
    assert fixed.method == results_pb2.READING_METHOD_FIXED
    assert fixed.p_value.value == pytest.approx(welch.pvalue, rel=1e-9)
    assert comparison.degrees_of_freedom.value == pytest.approx(welch.df, rel=1e-9)
    assert fixed.difference_interval.low == pytest.approx(interval.low, rel=1e-9)
    assert fixed.difference_interval.high == pytest.approx(interval.high, rel=1e-9)
    assert fixed.difference_interval.level == 0.95
    assert comparison.lift.value == pytest.approx(treated.mean() / control.mean() - 1, rel=1e-9)
    excludes = fixed.lift_interval.low > 0 or fixed.lift_interval.high < 0
    assert excludes == (welch.pvalue < 0.05)
    # The reading of record holds at every look, and pays for it in width.
    assert comparison.p_value.value >= welch.pvalue
    assert comparison.difference_interval.low < interval.low
    assert comparison.difference_interval.high > interval.high
    assert comparison.normal_posterior.prior.startswith("normal on the lift")
    beta = comparison.beta_binomial_posterior
    if comparison.HasField("beta_binomial_posterior"):
        normal = comparison.normal_posterior.probability_better.value
        assert beta.probability_better.value == pytest.approx(normal, abs=0.03)
        assert beta.credible_interval.low < treated.mean() - control.mean()
        assert beta.credible_interval.high > treated.mean() - control.mean()


async def test_provenance_says_what_the_numbers_depend_on(world: World) -> None:
    token = world.write(events(simulated()))
    await world.owner.define("visits", VISIT)
    results = await world.viewer.results(consistency_token=token, alpha=0.1)
    provenance = results.provenance
    assert provenance.config_version == 17
    assert provenance.watermark == token
    assert provenance.watermark_time.ToDatetime(dt.UTC) == NOW
    assert provenance.engine_version == VERSION
    assert provenance.alpha == 0.1
    assert results.metrics[0].metric_version == 1
    assert results.metrics[0].comparisons[0].lift_interval.level == pytest.approx(0.9)
    again = await world.viewer.results(consistency_token=token, alpha=0.1)
    assert again.SerializeToString(deterministic=True) == results.SerializeToString(
        deterministic=True
    )


async def test_the_callers_own_credential_reads_the_experiment(world: World) -> None:
    await world.viewer.results()
    assert world.played.presented == [world.viewer.authorization]


async def test_nothing_logged_has_reasons_and_no_numbers(world: World) -> None:
    await world.owner.define("visits", VISIT)
    results = await world.viewer.results()
    reason = results_pb2.NOT_ESTIMABLE_NO_UNITS
    comparison = results.metrics[0].comparisons[0]
    for estimate in (
        results.metrics[0].arms[0].mean,
        results.metrics[0].arms[0].probability_best,
        comparison.difference,
        comparison.lift,
        comparison.p_value,
        comparison.normal_posterior.probability_better,
        comparison.beta_binomial_posterior.expected_loss,
        results.sample_ratio.p_value,
    ):
        assert estimate.WhichOneof("result") == "not_estimable"
        assert estimate.not_estimable == reason
    assert comparison.lift_interval.not_estimable == reason
    assert results.provenance.watermark == ""
    assert not results.provenance.HasField("watermark_time")


async def test_a_control_without_conversions_has_a_difference_and_no_lift(world: World) -> None:
    values = simulated()
    values["control"] = np.zeros(400)
    world.write(events(values))
    await world.owner.define("visits", VISIT)
    comparison = (await world.viewer.results()).metrics[0].comparisons[0]
    assert comparison.p_value.value < 1e-10
    assert comparison.difference_interval.low > 0
    assert comparison.lift.not_estimable == results_pb2.NOT_ESTIMABLE_ZERO_CONTROL_MEAN
    assert comparison.beta_binomial_posterior.probability_better.value > 0.999


async def test_a_vague_control_says_that_the_lift_has_no_ends(world: World) -> None:
    rare = np.zeros(100)
    rare[:2] = 1.0
    world.write(events({"control": rare, "green": rare[::-1], "blue": np.arange(100) < 4}))
    await world.owner.define("visits", VISIT)
    for comparison in (await world.viewer.results(methods=[FIXED])).metrics[0].comparisons:
        fixed, score = comparison.readings
        assert score.method == results_pb2.READING_METHOD_SCORE
        interval = fixed.lift_interval
        assert fixed.p_value.value > 0.05
        assert interval.not_estimable == results_pb2.NOT_ESTIMABLE_CONTROL_MEAN_NEAR_ZERO
        assert interval.complement
        # What the two ends shut out is not "no effect".
        assert interval.high < 0 or interval.low > 0


async def test_numbers_beyond_a_double_are_reported_as_such(world: World) -> None:
    values = {variant: np.linspace(9e307, 1e308, units) for variant, units in ARMS.items()}
    values["green"][0] = -1e308
    world.write(events(values))
    await world.owner.define("spend", SPEND)
    metric = (await world.viewer.results()).metrics[0]
    green = metric.comparisons[0]
    for estimate in (
        metric.arms[0].variance,
        metric.arms[0].probability_best,
        green.std_err,
        green.normal_posterior.expected_loss,
    ):
        assert estimate.not_estimable == results_pb2.NOT_ESTIMABLE_OVERFLOW
    assert green.lift_interval.not_estimable == results_pb2.NOT_ESTIMABLE_OVERFLOW
    assert green.difference_interval.not_estimable == results_pb2.NOT_ESTIMABLE_OVERFLOW
    assert green.p_value.value == 1
    assert metric.arms[1].mean.value == pytest.approx(9.5e307)
    assert metric.arms[1].sum.not_estimable == results_pb2.NOT_ESTIMABLE_OVERFLOW


async def test_a_value_too_large_to_be_squared_takes_no_other_number_away(world: World) -> None:
    """In a metric that is guarded, and in one that has an effect to find."""
    values = {variant: np.linspace(1e200, 2e200, units) for variant, units in ARMS.items()}
    world.write(events(values))
    await world.owner.define("visits", VISIT)
    guard = metric_pb2.Metric(role=metric_pb2.METRIC_ROLE_GUARDRAIL, margin=0.02)
    goal = metric_pb2.Metric(role=metric_pb2.METRIC_ROLE_PRIMARY, minimum_effect=0.02)
    for name, metric in (("guard", guard), ("goal", goal)):
        metric.MergeFrom(SPEND)
        await world.owner.define(name, metric)
    goals, guards, visits = (await world.viewer.results()).metrics
    assert visits.arms[0].mean.value == 1
    for found in (goals, guards):
        assert not found.HasField("error")
        assert found.arms[1].variance.not_estimable == results_pb2.NOT_ESTIMABLE_OVERFLOW
        assert found.arms[0].mean.value == pytest.approx(1.5e200)
    asked = {"experiment": f"{PROJECT}/experiments/checkout"}
    health = (await world.viewer.call("GetHealth", **asked)).health
    by_metric = {one.metric: one for one in health.power}
    for found in (goals, guards):
        detectable = by_metric[found.metric].detectable_lift
        assert detectable.not_estimable == results_pb2.NOT_ESTIMABLE_OVERFLOW


@pytest.mark.parametrize("unit", ["control-0", "a stranger"])
async def test_values_that_are_lost_beside_a_far_larger_one_are_no_zeros(
    world: World, unit: str
) -> None:
    """The largest number of a signed 64-bit integer, as a client logs it that knows no amount."""
    tables = events({variant: np.linspace(1, 2, units) for variant, units in ARMS.items()})
    tables["conversions"].append({"unit_id": unit, "event_name": "purchase", "value": 2.0**63})
    world.write(tables)
    capped = metric_pb2.Metric(cap=metric_pb2.Cap(percentile=0.9))
    capped.MergeFrom(SPEND)
    counted = metric_pb2.Metric(aggregation=metric_pb2.AGGREGATION_COUNT)
    counted.MergeFrom(SPEND)
    for name, metric in (("capped", capped), ("count", counted), ("spend", SPEND), ("v", VISIT)):
        await world.owner.define(name, metric)
    found = {m.metric.rpartition("/")[2]: m for m in (await world.viewer.results()).metrics}
    for name in ("capped", "spend"):
        error = found[name].error
        assert error.reason == "LIMIT_EXCEEDED"
        assert "an event purchase of the project has a value of 9e+18 or more" in error.message
        assert not found[name].comparisons
    for name in ("count", "v"):
        assert found[name].arms[0].mean.value == 1


async def test_what_a_metric_leaves_out_costs_it_no_digits(world: World) -> None:
    tables = events({variant: np.linspace(1, 2, units) for variant, units in ARMS.items()})
    for row in tables["conversions"]:
        row["currency"] = "CNY"
    absurd = {"unit_id": "control-0", "event_name": "purchase", "value": 2.0**63}
    tables["conversions"].append(absurd | {"currency": "JPY"})
    world.write(tables)
    sane = metric_pb2.Metric(
        filter=filter_pb2.Filter(
            compare=filter_pb2.FieldComparison(
                field="value",
                operator=filter_pb2.FILTER_OPERATOR_LESS,
                values=[Value(number_value=1e6)],
            )
        )
    )
    sane.MergeFrom(SPEND)
    yuan = metric_pb2.Metric(currency="CNY")
    yuan.MergeFrom(SPEND)
    for name, metric in (("all", SPEND), ("sane", sane), ("yuan", yuan)):
        await world.owner.define(name, metric)
    found = {m.metric.rpartition("/")[2]: m for m in (await world.viewer.results()).metrics}
    assert found["all"].error.reason == "LIMIT_EXCEEDED"
    for name in ("sane", "yuan"):
        assert found[name].arms[0].mean.value == pytest.approx(1.5, rel=1e-12)


async def test_units_that_are_forced_now_are_left_out(world: World) -> None:
    world.write(events({"control": np.ones(4), "green": np.ones(4)}))
    world.played.forced = ["control-0", "control-1", "green-3", "nobody"]
    results = await world.viewer.results()
    assert {arm.variant: arm.units for arm in results.arms} == {
        "green": 3,
        "control": 2,
        "blue": 0,
    }
    assert results.forced_units == 3


async def test_excluded_units_and_strange_variants_are_counted(world: World) -> None:
    tables = events({"control": np.ones(3), "green": np.ones(4)})
    tables["exposures"] += [
        {"unit_id": "control-0", "experiment": "checkout", "variant": "green"},
        {"unit_id": "x", "experiment": "checkout", "variant": "purple"},
    ]
    world.write(tables)
    results = await world.viewer.results()
    assert [a.units for a in results.arms] == [4, 2, 0]
    assert results.multiply_exposed_units == 1
    assert results.unknown_variant_exposures == 1


async def test_the_life_of_a_metric(world: World) -> None:
    full = metric_pb2.Metric(
        display_name="Ausgaben ✓",
        kind=metric_pb2.METRIC_KIND_MEAN,
        event_name="purchase",
        direction=metric_pb2.DIRECTION_DECREASE,
        role=metric_pb2.METRIC_ROLE_GUARDRAIL,
        conversion_window=Duration(seconds=3600),
        currency="EUR",
    )
    made = await world.owner.define("spend", full)
    assert (made.name, made.version) == (f"{PROJECT}/metrics/spend", 1)
    assert made.conversion_window.seconds == 3600
    assert (await world.viewer.call("GetMetric", name=made.name)).metric == made

    made.currency, made.event_name = "USD", "ignored"
    changed = await world.owner.call(
        "UpdateMetric",
        metric=made,
        update_mask=FieldMask(paths=["currency", "conversion_window"]),
    )
    assert (changed.metric.version, changed.metric.currency) == (2, "USD")
    assert changed.metric.event_name == "purchase"
    stale = await world.owner.refused(
        "UpdateMetric", metric=made, update_mask=FieldMask(paths=["currency"])
    )
    assert stale.reason == "STALE_ETAG"

    archived = await world.owner.call("ArchiveMetric", name=made.name, etag=changed.metric.etag)
    assert archived.metric.HasField("archive_time")
    again = await world.owner.refused("ArchiveMetric", name=made.name)
    assert again.reason == "WRONG_STATE"
    taken = await world.owner.refused(
        "CreateMetric", parent=PROJECT, metric_id="spend", metric=SPEND
    )
    assert taken.code is Code.ALREADY_EXISTS
    assert not (await world.viewer.results()).metrics
    by_name = await world.viewer.results(metrics=[made.name])
    assert by_name.metrics[0].metric_version == 2


async def test_metrics_are_listed_in_pages(world: World) -> None:
    for metric_id in ("b", "a", "c"):
        await world.owner.define(metric_id, VISIT)
    names, token = [], ""
    while True:
        page = await world.viewer.call("ListMetrics", parent=PROJECT, page_size=2, page_token=token)
        names.append([metric.name.rsplit("/", 1)[1] for metric in page.metrics])
        token = page.next_page_token
        if not token:
            break
    assert names == [["a", "b"], ["c"]]
    forged = await world.viewer.refused("ListMetrics", parent=PROJECT, page_token="bm9uZQ==")
    assert forged.reason == "INVALID_PAGE_TOKEN"


async def test_a_repeated_request_is_answered_once_and_a_trial_changes_nothing(
    world: World,
) -> None:
    await world.owner.define("visits", VISIT, validate_only=True)
    missing = await world.viewer.refused("GetMetric", name=f"{PROJECT}/metrics/visits")
    assert missing.code is Code.NOT_FOUND
    first = await world.owner.define("visits", VISIT, request_id="r-1")
    assert await world.owner.define("visits", VISIT, request_id="r-1") == first
    reused = await world.owner.refused(
        "CreateMetric", parent=PROJECT, metric_id="other", metric=VISIT, request_id="r-1"
    )
    assert reused.reason == "REQUEST_ID_REUSED"


async def test_other_projects_and_other_roles_see_nothing(world: World) -> None:
    made = await world.owner.define("visits", VISIT)
    for method, fields in (
        ("GetMetric", {"name": made.name}),
        ("ListMetrics", {"parent": PROJECT}),
        ("ArchiveMetric", {"name": made.name}),
        ("CreateMetric", {"parent": PROJECT, "metric_id": "x", "metric": VISIT}),
        ("UpdateMetric", {"metric": made, "update_mask": FieldMask(paths=["role"])}),
        ("GetResults", {"experiment": f"{PROJECT}/experiments/checkout"}),
    ):
        assert (await world.other.refused(method, **fields)).code is Code.NOT_FOUND
        assert (await world.assigner.refused(method, **fields)).code is Code.PERMISSION_DENIED
    denied = await world.viewer.refused("ArchiveMetric", name=made.name)
    assert denied.reason == "MISSING_ROLE"


@pytest.mark.parametrize(
    ("method", "fields", "field"),
    [
        ("CreateMetric", {"metric": metric_pb2.Metric(event_name="x")}, "metric.kind"),
        ("CreateMetric", {"metric": metric_pb2.Metric(kind=VISIT.kind)}, "metric.event_name"),
        ("CreateMetric", {"metric": VISIT, "metric_id": "Größe"}, "metric_id"),
        ("UpdateMetric", {"update_mask": FieldMask(paths=["kind"])}, "update_mask"),
        ("UpdateMetric", {"update_mask": FieldMask()}, "update_mask"),
        ("GetResults", {"alpha": float("nan")}, "alpha"),
        ("GetResults", {"alpha": 1e-12}, "alpha"),
        ("GetResults", {"experiment": "checkout"}, "name"),
        ("GetResults", {"metrics": ["visits"]}, "name"),
    ],
)
async def test_bad_input_names_the_field(
    world: World, method: str, fields: dict[str, Any], field: str
) -> None:
    named = metric_pb2.Metric(name=f"{PROJECT}/metrics/v", kind=VISIT.kind, event_name="visit")
    defaults: dict[str, dict[str, Any]] = {
        "CreateMetric": {"parent": PROJECT, "metric_id": "m"},
        "UpdateMetric": {"metric": named},
        "GetResults": {"experiment": f"{PROJECT}/experiments/checkout"},
    }
    error = await world.owner.refused(method, **defaults[method] | fields)
    assert error.code is Code.INVALID_ARGUMENT
    assert {violation.field for violation in error.violations} == {field}


async def test_what_is_missing_is_named(world: World) -> None:
    gone = await world.viewer.refused("GetResults", experiment=f"{PROJECT}/experiments/nothing")
    assert gone.code is Code.NOT_FOUND
    metric = await world.viewer.refused(
        "GetResults",
        experiment=f"{PROJECT}/experiments/checkout",
        metrics=[f"{PROJECT}/metrics/nothing"],
    )
    assert metric.code is Code.NOT_FOUND
    assert "nothing" in metric.message
    world.played.experiment.ClearField("variants")
    bare = await world.viewer.refused("GetResults", experiment=f"{PROJECT}/experiments/checkout")
    assert bare.reason == "WRONG_STATE"


async def test_made_up_tokens_keep_nobody_waiting(world: World) -> None:
    """A position that no log ever reaches waits on the loop: threads and line stay free."""
    await world.owner.define("visits", VISIT)
    await world.viewer.results(consistency_token=world.write(events(simulated())))
    never = ConsistencyToken("journal", 10**15).encode()
    waiting = [
        asyncio.create_task(world.viewer.results(consistency_token=never)) for _ in range(64)
    ]
    await asyncio.sleep(0.5)
    async with asyncio.timeout(5):
        assert (await world.viewer.call("ListMetrics", parent=PROJECT)).metrics
        assert (await world.viewer.results()).arms
    for task in waiting:
        assert not task.done()
        task.cancel()
    await asyncio.wait(waiting)


async def test_beyond_the_line_results_are_overloaded(world: World) -> None:
    await world.owner.define("visits", VISIT)
    world.write(events(simulated()))
    world.played.hold = asyncio.Event()
    asked = [asyncio.create_task(world.viewer.results()) for _ in range(4)]
    first = await next(asyncio.as_completed([refused_or_none(task) for task in asked]))
    assert first is not None
    assert (first.code, first.reason) == (Code.RESOURCE_EXHAUSTED, "OVERLOADED")
    assert first.retry_after_s == 1.0
    assert (await world.viewer.call("ListMetrics", parent=PROJECT)).metrics
    world.played.hold.set()
    ends = await asyncio.gather(*(refused_or_none(task) for task in asked))
    assert sum(end is None for end in ends) == 3


async def refused_or_none(task: "asyncio.Task[Any]") -> DomainError | None:
    try:
        await asyncio.shield(task)
    except grpc.aio.AioRpcError as error:
        return from_rpc_error(error)
    return None


def test_a_call_has_30_seconds_and_waits_for_data_in_a_part_of_them() -> None:
    service = results_service_pb2.DESCRIPTOR.services_by_name["ResultsService"]
    rule = rule_of(service.methods_by_name["GetResults"])
    assert rule is not None
    assert rule.max_duration_s == 30
    assert Settings().results_max_wait_s <= 0.8 * rule.max_duration_s
