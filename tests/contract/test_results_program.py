"""What finished experiments gained together, without the flattery of choosing winners."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from touchstone.assignment.v1 import experiment_pb2
from touchstone.results.v1 import evaluation_service_pb2 as pb
from touchstone.results.v1 import metric_pb2

from shared.errors import Code
from tests.contract.results_world import PROJECT, World, open_world

SPEND = metric_pb2.Metric(kind=metric_pb2.METRIC_KIND_MEAN, event_name="purchase")
STOPPED = experiment_pb2.Experiment.STATE_STOPPED
# The true lift of each experiment, newest first.
LIFTS = (0.2, 0.0, -0.05, 0.04)

Values = dict[tuple[str, str], np.ndarray]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as found:
        await found.owner.define("spend", SPEND)
        yield found


def over(name: str, *variants: str) -> experiment_pb2.Experiment:
    return experiment_pb2.Experiment(
        name=f"{PROJECT}/experiments/{name}",
        unit_type="user",
        variants=[experiment_pb2.Variant(key=key, weight=5000) for key in variants],
        control_variant="old",
        state=STOPPED,
    )


def play(world: World, *experiments: experiment_pb2.Experiment) -> None:
    for one in experiments:
        world.played.more[one.name] = one


def simulated() -> Values:
    rng = np.random.default_rng(11)
    return {
        (f"e{number}", variant): rng.normal(10 * (1 + lift * (variant == "new")), 3, 150)
        for number, lift in enumerate(LIFTS)
        for variant in ("old", "new")
    }


def log(values: Values) -> dict[str, list[dict[str, Any]]]:
    tables: dict[str, list[dict[str, Any]]] = {"exposures": [], "conversions": []}
    for (experiment, variant), amounts in values.items():
        for number, amount in enumerate(amounts):
            unit = {"unit_id": f"{experiment}-{variant}-{number}"}
            exposure = {"experiment": experiment, "variant": variant}
            bought = {"event_name": "purchase", "value": float(amount)}
            tables["exposures"].append(unit | exposure)
            tables["conversions"].append(unit | bought)
    return tables


async def effect(world: World, metric: str = "spend") -> pb.GetProgramEffectResponse:
    fields = {"parent": PROJECT, "metric": f"{PROJECT}/metrics/{metric}"}
    reply: pb.GetProgramEffectResponse = await world.viewer.call("GetProgramEffect", **fields)
    return reply


async def test_the_total_is_that_of_lee_and_shen(world: World) -> None:
    values = simulated()
    world.write(log(values))
    play(world, *(over(f"e{number}", "old", "new") for number in range(len(LIFTS))))
    reply = await effect(world)
    lifts, errors = [], []
    for number in range(len(LIFTS)):
        old, new = values[f"e{number}", "old"], values[f"e{number}", "new"]
        ratio = new.mean() / old.mean()
        spread = new.var(ddof=1) / 150 + ratio**2 * old.var(ddof=1) / 150
        lifts.append(ratio - 1)
        errors.append(np.sqrt(spread) / old.mean())
    assert [one.lift.value for one in reply.experiments] == pytest.approx(lifts, rel=1e-9)
    assert [one.std_err.value for one in reply.experiments] == pytest.approx(errors, rel=1e-9)
    bar = stats.norm.isf(0.025)
    shipped = [x > bar * s for x, s in zip(lifts, errors, strict=True)]
    assert [one.shipped for one in reply.experiments] == shipped
    assert 0 < reply.shipped == sum(shipped) < len(LIFTS)
    naive = sum(x for x, ship in zip(lifts, shipped, strict=True) if ship)
    pairs = zip(lifts, errors, strict=True)
    flattery = sum(s * stats.norm.pdf((bar * s - x) / s) for x, s in pairs)
    assert reply.naive.value == pytest.approx(naive, rel=1e-9)
    assert reply.flattery.value == pytest.approx(flattery, rel=1e-9)
    assert reply.corrected.value == pytest.approx(naive - flattery, rel=1e-9)
    interval = reply.corrected_interval
    assert interval.low < reply.corrected.value < interval.high
    narrow = reply.borrowed_interval
    assert narrow.high - narrow.low < interval.high - interval.low
    assert narrow.low < reply.borrowed.value < narrow.high


async def test_a_metric_that_should_fall_is_turned(world: World) -> None:
    world.write(log(simulated()))
    play(world, *(over(f"e{number}", "old", "new") for number in range(len(LIFTS))))
    down = metric_pb2.Metric()
    down.CopyFrom(SPEND)
    down.direction = metric_pb2.DIRECTION_DECREASE
    await world.owner.define("cost", down)
    up, turned = await effect(world), await effect(world, "cost")
    assert [one.lift.value for one in turned.experiments] == [
        -one.lift.value for one in up.experiments
    ]
    assert not turned.experiments[0].shipped


async def test_what_is_not_counted_is_told(world: World) -> None:
    play(world, over("three", "old", "new", "newer"), over("unseen", "old", "new"))
    running = over("running", "old", "new")
    running.state = experiment_pb2.Experiment.STATE_RUNNING
    play(world, running)
    reply = await effect(world)
    assert [one.experiment for one in reply.experiments] == [f"{PROJECT}/experiments/unseen"]
    assert reply.experiments[0].lift.not_estimable
    assert (reply.several_treatments, reply.left_out, reply.shipped) == (1, 0, 0)
    assert reply.corrected.not_estimable
    assert reply.corrected_interval.not_estimable
    assert reply.borrowed.not_estimable


async def test_no_experiment_and_no_rights(world: World) -> None:
    reply = await effect(world)
    assert len(reply.experiments) == 0
    assert reply.naive.not_estimable
    fields = {"parent": PROJECT, "metric": f"{PROJECT}/metrics/spend"}
    assert (await world.other.refused("GetProgramEffect", **fields)).code is Code.NOT_FOUND
    denied = await world.assigner.refused("GetProgramEffect", **fields)
    assert denied.code is Code.PERMISSION_DENIED
