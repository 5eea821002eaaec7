"""Analysis plans over the contract: defaults, changes, refusals, and who may do what."""

import asyncio
import datetime as dt
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from touchstone.results.v1 import analysis_plan_pb2 as pb
from touchstone.results.v1 import metric_pb2, results_pb2

from shared.errors import Code
from tests.contract.results_world import EXPERIMENT, NOW, PROJECT, World, events, open_world

NAME = f"{EXPERIMENT}/analysisPlan"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as found:
        yield found


async def plan(world: World, version: int = 0) -> pb.AnalysisPlan:
    reply = await world.viewer.call("GetAnalysisPlan", name=NAME, version=version)
    found: pb.AnalysisPlan = reply.analysis_plan
    return found


async def update(world: World, *paths: str, **fields: Any) -> pb.AnalysisPlan:
    reply = await world.owner.call(
        "UpdateAnalysisPlan",
        analysis_plan=pb.AnalysisPlan(name=NAME, **fields),
        update_mask=FieldMask(paths=paths),
    )
    changed: pb.AnalysisPlan = reply.analysis_plan
    return changed


async def test_a_scheduled_stop_makes_an_end_and_the_reply_says_so(world: World) -> None:
    """Fifteen of thirty days have passed; what came by then comes again."""
    await world.owner.define(
        "visits", metric_pb2.Metric(kind=metric_pb2.METRIC_KIND_PROPORTION, event_name="visit")
    )
    schedule = world.played.experiment
    schedule.start_time.FromDatetime(NOW - dt.timedelta(days=15))
    schedule.schedule.stop_time.FromDatetime(NOW + dt.timedelta(days=15))
    world.write(events({variant: np.ones(300) for variant in ("control", "green", "blue")}))
    results = await world.owner.results()
    choice = results.method_choice
    assert results.method == pb.ANALYSIS_METHOD_GROUP_SEQUENTIAL
    assert choice.reason == results_pb2.METHOD_REASON_FORECAST
    assert choice.planned_units == 2 * sum(arm.units for arm in results.arms)
    assert choice.planned_end_time == schedule.schedule.stop_time
    again = await world.viewer.results(as_of=results.provenance.watermark)
    assert again.method_choice == choice
    looks = (await world.viewer.call("ListLooks", experiment=EXPERIMENT)).looks
    assert all(0 < look.information_fraction < 1 for look in looks)


async def test_the_default_plan_says_what_holds(world: World) -> None:
    found = await plan(world)
    assert (found.name, found.version, found.alpha, found.power) == (NAME, 0, 0.05, 0.8)
    assert found.method == pb.ANALYSIS_METHOD_UNSPECIFIED
    assert found.primary_correction == pb.CORRECTION_HOLM
    assert not found.HasField("create_time")
    assert not found.fixed


async def test_planned_units_make_the_default_group_sequential(world: World) -> None:
    changed = await update(world, "planned_units", planned_units=5000)
    assert changed.method == pb.ANALYSIS_METHOD_GROUP_SEQUENTIAL
    assert (changed.version, changed.etag) == (1, "1")


async def test_what_peeking_does_is_said_of_one_comparison_and_of_the_prior_that_was_used(
    world: World,
) -> None:
    visits = metric_pb2.Metric(kind=metric_pb2.METRIC_KIND_PROPORTION, event_name="visit")
    await world.owner.define("visits", visits)
    world.write(events({variant: np.arange(200) % 2 for variant in ("control", "green", "blue")}))

    async def peeking(**prior: float) -> dict[str, float]:
        await update(world, "prior", prior=pb.LiftPrior(**prior))
        told = (await world.owner.results()).peeking
        assert all(
            "of comparisons without an effect" in one.statement or one.false_decisions == 1
            for one in told
        )
        return {one.rule: one.false_decisions for one in told[1:]}

    wide, narrow = await peeking(std_dev=0.3), await peeking(std_dev=0.03)
    assert all(narrow[rule] < wide[rule] < 0.5 for rule in wide)
    # The belief in a gain decides for it before there is any data.
    assert set((await peeking(mean=0.1, std_dev=0.01)).values()) == {1.0}


async def test_what_was_set_comes_back_and_every_version_stays(world: World) -> None:
    full = pb.AnalysisPlan(
        method=pb.ANALYSIS_METHOD_HYBRID,
        alpha=0.01,
        power=0.9,
        spending=pb.ALPHA_SPENDING_HWANG_SHIH_DECANI,
        spending_parameter=-4,
        planned_units=9000,
        primary_correction=pb.CORRECTION_PREFERENTIAL_BONFERRONI,
        secondary_correction=pb.CORRECTION_NONE,
        primary_share=0.8,
        without_variance_reduction=True,
        prior=pb.LiftPrior(mean=0.01, std_dev=0.1),
        dimensions=["properties.country", "source"],
        multiple_exposures=pb.MULTIPLE_EXPOSURES_FIRST,
        metrics=[
            pb.MetricPlan(
                metric=f"{PROJECT}/metrics/spend",
                role=metric_pb2.METRIC_ROLE_GUARDRAIL,
                margin=0.02,
            )
        ],
        practical_equivalence=0.005,
        cluster_field="properties.shop",
        switchback=pb.SwitchbackWindows(period_s=7200, burn_in_s=600),
    )
    full.planned_end_time.FromJsonString("2026-04-01T00:00:00Z")
    paths = [field.name for field, _ in full.ListFields()]
    fields = {name: getattr(full, name) for name in paths}
    changed = await update(world, *paths, **fields)
    for name in paths:
        assert getattr(changed, name) == getattr(full, name), name
    again = await update(world, "alpha", alpha=0.1)
    assert (again.version, again.alpha, again.spending_parameter) == (2, 0.1, -4)
    assert (await plan(world, version=1)) == changed
    assert (await plan(world, version=0)) == again


async def test_a_stale_etag_and_unknown_versions_and_experiments_are_refused(world: World) -> None:
    await update(world, "alpha", alpha=0.1)
    stale = await world.owner.refused(
        "UpdateAnalysisPlan",
        analysis_plan=pb.AnalysisPlan(name=NAME, alpha=0.2, etag="0"),
        update_mask=FieldMask(paths=["alpha"]),
    )
    assert stale.reason == "STALE_ETAG"
    never = await world.viewer.refused("GetAnalysisPlan", name=NAME, version=7)
    assert never.code is Code.NOT_FOUND
    for name in (f"{PROJECT}/experiments/nothing/analysisPlan",):
        missing = await world.viewer.refused("GetAnalysisPlan", name=name)
        assert missing.code is Code.NOT_FOUND


async def test_a_trial_changes_nothing_and_a_repeated_request_is_answered_once(
    world: World,
) -> None:
    fields: dict[str, Any] = {
        "analysis_plan": pb.AnalysisPlan(name=NAME, alpha=0.1),
        "update_mask": FieldMask(paths=["alpha"]),
    }
    await world.owner.call("UpdateAnalysisPlan", validate_only=True, **fields)
    assert (await plan(world)).version == 0
    first = await world.owner.call("UpdateAnalysisPlan", request_id="r", **fields)
    assert await world.owner.call("UpdateAnalysisPlan", request_id="r", **fields) == first
    assert (await plan(world)).version == 1


@pytest.mark.parametrize(
    ("fields", "paths", "field"),
    [
        ({"alpha": 1e-12}, ["alpha"], "analysis_plan.alpha"),
        ({"alpha": 0.7}, ["alpha"], "analysis_plan.alpha"),
        ({"power": 0.01}, ["power"], "analysis_plan.power"),
        ({"method": 2}, ["method"], "analysis_plan.planned_units"),
        ({"secondary_correction": 7}, ["secondary_correction"], None),
        ({"spending": 3, "spending_parameter": -1}, ["spending", "spending_parameter"], None),
        ({"dimensions": ["unit"]}, ["dimensions"], "analysis_plan.dimensions[0]"),
        ({"alpha": 0.1}, ["fixed"], "update_mask"),
        ({"alpha": 0.1}, [], "update_mask"),
        ({"metrics": [{"metric": "spend"}]}, ["metrics"], "name"),
    ],
)
async def test_bad_input_names_the_field(
    world: World, fields: dict[str, Any], paths: list[str], field: str | None
) -> None:
    refused = await world.owner.refused(
        "UpdateAnalysisPlan",
        analysis_plan=pb.AnalysisPlan(name=NAME, **fields),
        update_mask=FieldMask(paths=paths),
    )
    assert refused.code is Code.INVALID_ARGUMENT
    expected = field or f"analysis_plan.{paths[-1]}"
    assert {violation.field for violation in refused.violations} == {expected}


async def test_other_projects_and_other_roles_see_nothing(world: World) -> None:
    change = {
        "analysis_plan": pb.AnalysisPlan(name=NAME, alpha=0.1),
        "update_mask": FieldMask(paths=["alpha"]),
    }
    calls: list[tuple[str, dict[str, Any]]] = [
        ("GetAnalysisPlan", {"name": NAME}),
        ("ListLooks", {"experiment": EXPERIMENT}),
        ("UpdateAnalysisPlan", change),
    ]
    for method, fields in calls:
        assert (await world.other.refused(method, **fields)).code is Code.NOT_FOUND
        assert (await world.assigner.refused(method, **fields)).code is Code.PERMISSION_DENIED
    assert (await world.viewer.refused("UpdateAnalysisPlan", **change)).reason == "MISSING_ROLE"
    assert not (await world.viewer.call("ListLooks", experiment=EXPERIMENT)).looks


async def test_results_take_looks_that_fix_the_plan_and_are_listed(world: World) -> None:
    await update(world, "planned_units", planned_units=4000)
    for metric_id, event in (("visits", "visit"), ("buys", "purchase")):
        await world.owner.define(
            metric_id, metric_pb2.Metric(kind=metric_pb2.METRIC_KIND_PROPORTION, event_name=event)
        )
    values = {"control": np.ones(300), "green": np.ones(300), "blue": np.zeros(300)}
    first = world.write(events(values))
    shown = await world.viewer.results(consistency_token=first)
    looks = (await world.viewer.call("ListLooks", experiment=EXPERIMENT)).looks
    assert [(look.metric, look.variant, look.number) for look in looks] == [
        (f"{PROJECT}/metrics/{metric}", variant, 1)
        for metric in ("buys", "visits")
        for variant in ("blue", "green")
    ]
    assert {look.watermark for look in looks} == {first}
    assert shown.metrics[0].comparisons[0].look.current
    assert (await plan(world)).fixed
    fixed = await world.owner.refused(
        "UpdateAnalysisPlan",
        analysis_plan=pb.AnalysisPlan(name=NAME, alpha=0.1),
        update_mask=FieldMask(paths=["alpha"]),
    )
    assert (fixed.code, fixed.reason) == (Code.FAILED_PRECONDITION, "PLAN_FIXED")
    changed = await update(world, "power", power=0.9)
    assert changed.fixed

    again = await world.viewer.results()
    again.provenance.plan_version = shown.provenance.plan_version
    assert again == shown
    pages: list[Any] = []
    token = ""
    while True:
        reply = await world.viewer.call(
            "ListLooks", experiment=EXPERIMENT, page_size=3, page_token=token
        )
        pages.append([look.variant for look in reply.looks])
        if not (token := reply.next_page_token):
            break
    assert pages == [["blue", "green", "blue"], ["green"]]


async def test_other_methods_cost_nothing_and_need_what_they_go_towards(world: World) -> None:
    await world.owner.define(
        "visits", metric_pb2.Metric(kind=metric_pb2.METRIC_KIND_PROPORTION, event_name="visit")
    )
    world.write(events({variant: np.ones(300) for variant in ("control", "green", "blue")}))
    for method in (pb.ANALYSIS_METHOD_GROUP_SEQUENTIAL, pb.ANALYSIS_METHOD_HYBRID):
        refused = await world.viewer.refused("GetResults", experiment=EXPERIMENT, methods=[method])
        assert [violation.field for violation in refused.violations] == ["methods"]
        assert "planned_units" in refused.violations[0].description
    assert not (await world.viewer.call("ListLooks", experiment=EXPERIMENT)).looks
    anytime = pb.ANALYSIS_METHOD_ANYTIME
    await update(world, "planned_units", "method", planned_units=4000, method=anytime)
    shown = await world.viewer.results(methods=[pb.ANALYSIS_METHOD_GROUP_SEQUENTIAL])
    for comparison in shown.metrics[0].comparisons:
        assert int(comparison.readings[0].method) == results_pb2.READING_METHOD_GROUP_SEQUENTIAL
    looks = (await world.viewer.call("ListLooks", experiment=EXPERIMENT)).looks
    assert {look.spent for look in looks} == {0.0}


async def test_many_who_read_at_once_take_one_look(world: World) -> None:
    await world.owner.define(
        "visits", metric_pb2.Metric(kind=metric_pb2.METRIC_KIND_PROPORTION, event_name="visit")
    )
    world.write(events({"control": np.ones(30), "green": np.ones(30), "blue": np.zeros(30)}))
    shown = await asyncio.gather(*(world.viewer.results() for _ in range(3)))
    assert shown[0] == shown[1] == shown[2]
    looks = (await world.viewer.call("ListLooks", experiment=EXPERIMENT)).looks
    assert [look.number for look in looks] == [1, 1]
