"""Waves of a journey against a control group: the four factors, with their uncertainty."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from scipy import stats
from touchstone.results.v1 import evaluation_service_pb2 as pb
from touchstone.results.v1 import metric_pb2

from shared.errors import Code
from tests.contract.results_world import EXPERIMENT, PROJECT, World, open_world

SHARE = metric_pb2.METRIC_KIND_PROPORTION
# Of 2,000 units in each group, how many did it: the control group, then two waves.
FACTORS = {
    "active": (250, 490, 490),
    "balance": (38, 144, 144),
    "cards": (50, 152, 152),
    "wealth": (7, 32, 32),
}
GROUPS = ("control", "green", "blue")


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as found:
        yield found


async def test_the_four_factors_have_ratio_and_lift_with_intervals(world: World) -> None:
    tables: dict[str, list[dict[str, Any]]] = {"exposures": [], "conversions": []}
    for group in GROUPS:
        for number in range(2000):
            unit = {"unit_id": f"{group}-{number}"}
            tables["exposures"].append(unit | {"experiment": "checkout", "variant": group})
    for name, counts in FACTORS.items():
        for group, count in zip(GROUPS, counts, strict=True):
            tables["conversions"] += [
                {"unit_id": f"{group}-{number}", "event_name": name} for number in range(count)
            ]
    world.write(tables)
    for name in FACTORS:
        await world.owner.define(name, metric_pb2.Metric(kind=SHARE, event_name=name))
    reply = await world.viewer.call("EvaluateControlGroup", **asked())
    assert [group.units for group in reply.groups] == [2000, 2000, 2000]
    by_name = {one.metric.rsplit("/", 1)[1]: one for one in reply.metrics}
    for name, expected in (("active", 1.96), ("balance", 3.79), ("cards", 3.04), ("wealth", 4.57)):
        one = by_name[name]
        assert len(one.waves) == 2
        for wave in (*one.waves, one.pooled):
            assert wave.ratio.value == pytest.approx(expected, abs=0.005)
            assert wave.lift.value == pytest.approx(wave.ratio.value - 1)
            assert wave.ratio_interval.low < wave.ratio.value < wave.ratio_interval.high
            assert wave.ratio_interval.low == pytest.approx(wave.lift_interval.low + 1)
            excluded = wave.lift_interval.low > 0
            assert excluded == (wave.adjusted_p_value.value < 0.05)
            assert wave.gained.value == pytest.approx(wave.difference.value * wave.estimate.units)
        assert one.pooled.estimate.units == 4000
        assert one.pooled.gained.value == pytest.approx(
            sum(wave.gained.value for wave in one.waves)
        )
        # Two waves at once: more than one alone, less than Bonferroni.
        wave = one.waves[0]
        assert wave.p_value.value <= wave.adjusted_p_value.value <= 2 * wave.p_value.value + 1e-12
    active = by_name["active"].waves[0]
    assert active.p_value.value == pytest.approx(
        stats.chi2_contingency([[490, 1510], [250, 1750]], correction=False).pvalue, rel=0.2
    )
    assert not (await world.viewer.call("ListLooks", experiment=EXPERIMENT)).looks


def asked(experiment: str = EXPERIMENT) -> dict[str, Any]:
    def group(variant: str) -> pb.ExperimentGroup:
        return pb.ExperimentGroup(experiment=experiment, variant=variant)

    return {
        "parent": PROJECT,
        "control": group("control"),
        "waves": [group("green"), group("blue")],
        "metrics": [f"{PROJECT}/metrics/{name}" for name in FACTORS],
    }


async def test_others_see_nothing(world: World) -> None:
    fields = asked()
    assert (await world.other.refused("EvaluateControlGroup", **fields)).code is Code.NOT_FOUND
    denied = await world.assigner.refused("EvaluateControlGroup", **fields)
    assert denied.code is Code.PERMISSION_DENIED
    missing = asked(f"{PROJECT}/experiments/none")
    assert (await world.viewer.refused("EvaluateControlGroup", **missing)).code is Code.NOT_FOUND


async def test_a_group_that_does_not_exist_or_is_named_twice_is_refused(world: World) -> None:
    for name in FACTORS:
        await world.owner.define(name, metric_pb2.Metric(kind=SHARE, event_name=name))
    unknown = asked()
    unknown["waves"][0].variant = "purple"
    refused = await world.viewer.refused("EvaluateControlGroup", **unknown)
    assert [violation.field for violation in refused.violations] == ["waves[0].variant"]
    twice = asked()
    twice["waves"][1].variant = "control"
    refused = await world.viewer.refused("EvaluateControlGroup", **twice)
    assert [violation.field for violation in refused.violations] == ["waves[1]"]
