"""Experiments that run at the same time: their cross table, and what they do to each other."""

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
from tests.contract.results_world import EXPERIMENT, PROJECT, World, open_world

SPEND = metric_pb2.Metric(kind=metric_pb2.METRIC_KIND_MEAN, event_name="purchase")
BANNER = f"{PROJECT}/experiments/banner"
OWN, ITS = ("green", "control", "blue"), ("off", "on")


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as found:
        found.played.experiment.state = experiment_pb2.Experiment.STATE_RUNNING
        found.played.experiment.name = EXPERIMENT
        found.played.more[BANNER] = running(BANNER, "user")
        await found.owner.define("spend", SPEND)
        yield found


def running(name: str, unit_type: str) -> experiment_pb2.Experiment:
    return experiment_pb2.Experiment(
        name=name,
        unit_type=unit_type,
        variants=[experiment_pb2.Variant(key=key, weight=5000) for key in ITS],
        control_variant="off",
        state=experiment_pb2.Experiment.STATE_RUNNING,
    )


def simulated(extra: float, seed: int = 3) -> dict[tuple[str, str], np.ndarray]:
    """What units spend by the variants of both; green with the banner on spends `extra` more."""
    rng = np.random.default_rng(seed)
    return {
        (own, its): rng.gamma(4, 2, 80 + 5 * row) + extra * ((own, its) == ("green", "on"))
        for own in OWN
        for row, its in enumerate(ITS)
    }


def log(values: dict[tuple[str, str], np.ndarray]) -> dict[str, list[dict[str, Any]]]:
    tables: dict[str, list[dict[str, Any]]] = {"exposures": [], "conversions": []}
    for (own, its), amounts in values.items():
        for number, amount in enumerate(amounts):
            unit = {"unit_id": f"{own}-{its}-{number}"}
            # Twice, since a unit is exposed again and again.
            for time in ("first", "second"):
                for experiment, variant in (("checkout", own), ("banner", its)):
                    exposure = {"experiment": experiment, "variant": variant, "source": time}
                    tables["exposures"].append(unit | exposure)
            bought = {"event_name": "purchase", "value": float(amount)}
            tables["conversions"].append(unit | bought)
    for number in range(30):
        alone = {"unit_id": f"alone-{number}", "experiment": "checkout", "variant": "green"}
        both = {"unit_id": f"both-{number}", "experiment": "checkout", "variant": "green"}
        others = [both | {"experiment": "banner", "variant": its} for its in ITS]
        tables["exposures"] += [alone, *others, both]
    return tables


async def interactions(world: World) -> pb.GetInteractionsResponse:
    fields = {"experiment": EXPERIMENT, "metrics": [f"{PROJECT}/metrics/spend"]}
    reply: pb.GetInteractionsResponse = await world.viewer.call("GetInteractions", **fields)
    return reply


async def test_cells_and_contrasts_equal_those_made_by_hand(world: World) -> None:
    values = simulated(extra=4.0)
    world.write(log(values))
    reply = await interactions(world)
    (other,) = reply.experiments
    assert other.experiment == BANNER
    assert list(other.variants) == list(OWN)
    table = {line.variant: list(line.units) for line in other.rows}
    assert table == {its: [len(values[own, its]) for own in OWN] for its in ITS}
    expected = stats.chi2_contingency([table["off"], table["on"]], correction=False).pvalue
    assert other.dependence_p_value.value == pytest.approx(expected, rel=1e-9)
    assert not other.dependence_alert
    (metric,) = other.metrics
    assert [(one.variant, one.other_variant) for one in metric.pairs] == [
        ("green", "on"),
        ("blue", "on"),
    ]
    for pair in metric.pairs:
        cells = [
            values[pair.variant, "on"],
            values[pair.variant, "off"],
            values["control", "on"],
            values["control", "off"],
        ]
        signs = (1, -1, -1, 1)
        size = sum(sign * cell.mean() for sign, cell in zip(signs, cells, strict=True))
        parts = [cell.var(ddof=1) / len(cell) for cell in cells]
        spread = sum(parts)
        dof = spread**2 / sum(p**2 / (len(c) - 1) for p, c in zip(parts, cells, strict=True))
        p = 2 * stats.t.sf(abs(size) / np.sqrt(spread), dof)
        assert pair.difference.value == pytest.approx(size, rel=1e-9)
        assert pair.p_value.value == pytest.approx(p, rel=1e-9)
        reach = stats.t.isf(0.025, dof) * np.sqrt(spread)
        assert pair.difference_interval.low == pytest.approx(size - reach, rel=1e-9)
    assert metric.p_value.value < 1e-3
    assert metric.adjusted_p_value.value == metric.p_value.value


async def test_experiments_that_only_add_up_do_not_interact(world: World) -> None:
    world.write(log(simulated(extra=0.0)))
    (other,) = (await interactions(world)).experiments
    assert other.metrics[0].p_value.value > 0.05


async def test_experiments_that_share_their_units_are_told(world: World) -> None:
    values = simulated(extra=0.0)
    uneven = {key: v[:20] if key == ("green", "on") else v for key, v in values.items()}
    world.write(log(uneven))
    (other,) = (await interactions(world)).experiments
    assert other.dependence_alert


async def test_others_are_corrected_together_and_too_many_are_counted(world: World) -> None:
    for number in range(11):
        name = f"{PROJECT}/experiments/more-{number}"
        world.played.more[name] = running(name, "user")
    device = f"{PROJECT}/experiments/device"
    world.played.more[device] = running(device, "device")
    world.played.more[f"{PROJECT}/experiments/over"] = experiment_pb2.Experiment(
        name="over", state=experiment_pb2.Experiment.STATE_STOPPED
    )
    world.write(log(simulated(extra=4.0)))
    reply = await interactions(world)
    assert len(reply.experiments) == 10
    assert reply.left_out == 2
    assert all("device" not in one.experiment for one in reply.experiments)
    empty = reply.experiments[1]
    assert [list(line.units) for line in empty.rows] == [[0, 0, 0], [0, 0, 0]]
    assert empty.metrics[0].p_value.not_estimable
    assert empty.dependence_p_value.not_estimable


async def test_an_experiment_alone_has_no_interactions(world: World) -> None:
    del world.played.more[BANNER]
    reply = await interactions(world)
    assert (len(reply.experiments), reply.left_out) == (0, 0)


async def test_others_see_nothing_and_quantiles_are_refused(world: World) -> None:
    median = metric_pb2.Metric(
        kind=metric_pb2.METRIC_KIND_QUANTILE, event_name="purchase", quantile=0.5
    )
    await world.owner.define("median", median)
    fields = {"experiment": EXPERIMENT, "metrics": [f"{PROJECT}/metrics/median"]}
    error = await world.viewer.refused("GetInteractions", **fields)
    assert [violation.field for violation in error.violations] == ["metrics[0]"]
    assert (await world.other.refused("GetInteractions", **fields)).code is Code.NOT_FOUND
