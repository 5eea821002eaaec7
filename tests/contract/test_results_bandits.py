"""Weights of bandits from what they have shown, period by period, and their way to assignment."""

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from touchstone.assignment.v1 import experiment_pb2
from touchstone.results.v1 import bandit_service_pb2 as pb
from touchstone.results.v1 import metric_pb2

from shared.errors import Code
from tests.contract.results_world import EXPERIMENT, PROJECT, World, open_world

SPEND = metric_pb2.Metric(kind=metric_pb2.METRIC_KIND_MEAN, event_name="purchase")
# A lift of some percent is what the default prior expects; this one lets the data speak.
Amounts = Mapping[tuple[int, str], np.ndarray]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as found:
        played = found.played.experiment
        played.allocation = experiment_pb2.ALLOCATION_BANDIT
        played.etag = "v17"
        await found.owner.define("spend", SPEND)
        yield found


def log(values: Amounts) -> dict[str, list[dict[str, Any]]]:
    tables: dict[str, list[dict[str, Any]]] = {"exposures": [], "conversions": []}
    for (version, variant), amounts in values.items():
        for number, amount in enumerate(amounts):
            unit = {"unit_id": f"{version}-{variant}-{number}"}
            exposure = {"experiment": "checkout", "variant": variant, "config_version": version}
            tables["exposures"].append(unit | exposure)
            bought = {"event_name": "purchase", "value": float(amount)}
            tables["conversions"].append(unit | bought)
    return tables


def two_periods() -> Amounts:
    """A poor period with equal weights, then a rich one in which blue has few units and control
    many: pooled units would flatter the control.
    """
    rng = np.random.default_rng(7)
    poor = {"control": 200, "green": 200, "blue": 200}
    rich = {"control": 500, "green": 60, "blue": 40}
    lifts = {"control": 1.0, "green": 0.9, "blue": 1.1}
    return {
        (version, variant): rng.normal(level * lifts[variant], 1, count)
        for version, level, sizes in ((9, 10, poor), (12, 20, rich))
        for variant, count in sizes.items()
    }


def asked(**rule: Any) -> dict[str, Any]:
    made = {"metric": f"{PROJECT}/metrics/spend"} | rule
    return {"experiment": EXPERIMENT, "rule": pb.BanditRule(**made)}


async def weights(world: World, **rule: Any) -> pb.BanditWeights:
    reply = await world.viewer.call("ComputeBanditWeights", **asked(**rule))
    found: pb.BanditWeights = reply.weights
    return found


async def test_means_weigh_each_period_by_all_its_traffic(world: World) -> None:
    values = two_periods()
    world.write(log(values))
    found = await weights(world)
    assert [(p.config_version, p.units, p.counts) for p in found.periods] == [
        (9, 600, True),
        (12, 600, True),
    ]
    by_key = {arm.variant: arm for arm in found.arms}
    for variant, arm in by_key.items():
        parts = [values[version, variant] for version in (9, 12)]
        mean = sum(part.mean() for part in parts) / 2
        variance = sum(part.var(ddof=1) / len(part) for part in parts) / 4
        assert arm.mean.value == pytest.approx(mean, rel=1e-9)
        assert arm.std_err.value == pytest.approx(np.sqrt(variance), rel=1e-9)
        assert arm.units == sum(len(part) for part in parts)
    pooled = {v: np.concatenate([values[9, v], values[12, v]]).mean() for v in by_key}
    assert max(pooled, key=lambda variant: pooled[variant]) == "control"
    assert max(found.arms, key=lambda arm: arm.weight).variant == "blue"


async def test_weights_are_chances_above_the_floor_and_sum_to_all(world: World) -> None:
    world.write(log(two_periods()))
    thompson = await weights(world, floor=0.1)
    top_two = await weights(world, floor=0.1, policy=pb.BANDIT_POLICY_TOP_TWO)
    for found in (thompson, top_two):
        assert found.hold == pb.BANDIT_HOLD_UNSPECIFIED
        assert sum(arm.weight for arm in found.arms) == 10_000
        assert min(arm.weight for arm in found.arms) >= 1000
    chances = [arm.probability_best.value for arm in thompson.arms]
    assert sum(chances) == pytest.approx(1, abs=1e-9)
    for arm, chance in zip(thompson.arms, chances, strict=True):
        assert arm.weight == pytest.approx(10_000 * (0.1 + 0.7 * chance), abs=1)
    assert max(arm.weight for arm in top_two.arms) < max(arm.weight for arm in thompson.arms)
    assert [arm.current_weight for arm in thompson.arms] == [3334, 3333, 3333]


@pytest.mark.parametrize(
    ("values", "rule", "hold"),
    [
        ({}, {}, pb.BANDIT_HOLD_NO_PERIOD),
        (two_periods(), {"least_units": 250}, pb.BANDIT_HOLD_TOO_FEW_UNITS),
        (
            {(9, v): np.full(120, 3.0) for v in ("control", "green", "blue")},
            {},
            pb.BANDIT_HOLD_NO_POSTERIOR,
        ),
        (
            {(0, variant): amounts for (v, variant), amounts in two_periods().items() if v == 9},
            {},
            pb.BANDIT_HOLD_PERIODS_UNKNOWN,
        ),
    ],
    ids=["nothing", "few", "constant", "unknown"],
)
async def test_weights_are_held_and_not_handed_over(
    world: World, values: Amounts, rule: dict[str, Any], hold: int
) -> None:
    if values:
        world.write(log(values))
    reply = await world.owner.call("ApplyBanditWeights", **asked(**rule))
    assert (reply.applied, reply.weights.hold) == (False, hold)
    assert sorted(arm.weight for arm in reply.weights.arms) == [3333, 3333, 3334]
    assert world.played.weighed == []


async def test_a_period_that_has_just_begun_does_not_count_yet(world: World) -> None:
    begun = {(15, "control"): np.array([1e6]), (15, "blue"): np.array([0.0])}
    world.write(log({**two_periods(), **begun}))
    found = await weights(world)
    assert [(p.config_version, p.counts) for p in found.periods] == [
        (9, True),
        (12, True),
        (15, False),
    ]
    assert found.hold == pb.BANDIT_HOLD_UNSPECIFIED
    assert max(arm.mean.value for arm in found.arms) < 20


async def test_what_was_computed_is_handed_over_once(world: World) -> None:
    world.write(log(two_periods()))
    shown = await weights(world)
    more = {(18, v): np.full(500, 99.0) + np.arange(500) % 7 for v in ("control", "green", "blue")}
    world.write(log(more), position=2)
    fields = asked() | {"as_of": shown.watermark, "etag": shown.etag, "request_id": "r-1"}
    for _ in range(2):
        reply = await world.owner.call("ApplyBanditWeights", **fields)
        assert reply.applied
    first, again = world.played.weighed
    assert first == again
    assert dict(first.weights) == {arm.variant: arm.weight for arm in shown.arms}
    assert (first.name, first.etag, first.request_id) == (EXPERIMENT, "v17", "r-1")
    assert world.played.presented[-1] == world.owner.authorization


async def test_weights_of_an_experiment_that_changed_are_not_handed_over(world: World) -> None:
    world.write(log(two_periods()))
    fields = asked() | {"etag": "v16"}
    error = await world.owner.refused("ApplyBanditWeights", **fields)
    assert error.code is Code.ABORTED
    assert world.played.weighed == []


async def test_a_dropped_variant_gets_nothing(world: World) -> None:
    world.played.experiment.variants[2].dropped = True
    world.write(log(two_periods()))
    reply = await world.owner.call("ApplyBanditWeights", **asked())
    assert reply.weights.arms[2].dropped
    (handed,) = world.played.weighed
    assert handed.weights["blue"] == 0
    assert sum(handed.weights.values()) == 10_000


async def test_who_may_not_and_what_cannot_be_weighed(world: World) -> None:
    denied = await world.viewer.refused("ApplyBanditWeights", **asked())
    assert denied.code is Code.PERMISSION_DENIED
    assert (await world.other.refused("ComputeBanditWeights", **asked())).code is Code.NOT_FOUND
    floor = await world.viewer.refused("ComputeBanditWeights", **asked(floor=0.4))
    assert [violation.field for violation in floor.violations] == ["rule.floor"]
    world.played.experiment.allocation = experiment_pb2.ALLOCATION_FIXED
    fixed = await world.viewer.refused("ComputeBanditWeights", **asked())
    assert fixed.code is Code.FAILED_PRECONDITION
    assert "fixed" in fixed.message
