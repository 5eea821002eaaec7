"""A past cut that lost rows says so, and replies of the past are given again to the last bit."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from touchstone.assignment.v1 import experiment_pb2
from touchstone.results.v1 import metric_pb2, results_pb2

from shared.errors import Code
from shared.lake.removal import Thinned, exchange, files_on_disk, thin
from shared.lake.table import TableWriter
from shared.lake.watermark import ConsistencyToken
from shared.lake.writer import LakeWriter
from shared.testing.fakes import FixedClock
from tests.contract import test_results_bandits as bandit
from tests.contract import test_results_interactions as crossed
from tests.contract import test_results_program as finished
from tests.contract.results_world import EXPERIMENT, NOW, PROJECT, World, events, open_world
from tests.contract.test_results_service import simulated

SPEND = metric_pb2.Metric(kind=metric_pb2.METRIC_KIND_MEAN, event_name="purchase")


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as found:
        await found.owner.define("spend", SPEND)
        yield found


def write(world: World, tables: dict[str, list[dict[str, Any]]], position: int) -> None:
    """With ids of their own, so that single events can be removed."""
    numbered = {
        name: [row | {"event_id": f"{name}-{position}-{n}"} for n, row in enumerate(rows)]
        for name, rows in tables.items()
    }
    world.write(numbered, position)


def remove(world: World, table: str, names: set[str]) -> None:
    """Erase events as an erasure does."""
    writer = LakeWriter(world.lake, "journal", FixedClock(NOW))
    for path in list(files_on_disk(world.lake / table, "demo")):
        thinned = thin(world.lake / table, str(path.relative_to(world.lake / table)), names)

        def swap(handle: TableWriter, done: Thinned = thinned) -> list[Thinned]:
            return exchange(handle, [done], NOW)

        if thinned.removed_rows:
            writer.change(table, swap)


async def test_what_was_removed_since_is_counted(world: World) -> None:
    write(world, events(simulated(5)), 1)
    first = await world.viewer.results()
    as_of = first.provenance.watermark
    write(world, {"conversions": [{"unit_id": "green-1", "event_name": "purchase"}]}, 2)
    again = await world.viewer.results(as_of=as_of)
    assert not again.HasField("removed_since")
    assert again.metrics == first.metrics
    # One of the first batch and the one that came later, which the past cut never held.
    gone = {"conversions-1-3", "conversions-2-0"}
    remove(world, "conversions", gone)
    remove(world, "exposures", {"exposures-1-0", "exposures-1-1"})
    past = await world.viewer.results(as_of=as_of)
    assert past.removed_since == results_pb2.RemovedSince(exposures=2, conversions=1)
    assert past.metrics != first.metrics
    # Read at the newest cut for the first time: nothing says that it ever held more.
    now = await world.viewer.results()
    assert not now.HasField("removed_since")
    remove(world, "exposures", {"exposures-1-2"})
    same_cut = await world.viewer.results()
    assert same_cut.removed_since == results_pb2.RemovedSince(exposures=1)


async def test_a_cut_that_nobody_read_is_not_known(world: World) -> None:
    write(world, events(simulated(5)), 1)
    write(world, {"conversions": [{"unit_id": "green-1", "event_name": "purchase"}]}, 2)
    await world.viewer.results()
    past = await world.viewer.results(as_of=ConsistencyToken("journal", 1).encode())
    assert past.removed_since == results_pb2.RemovedSince(unknown=True)


async def test_interactions_of_the_past_are_given_again(world: World) -> None:
    world.played.experiment.state = experiment_pb2.Experiment.STATE_RUNNING
    world.played.experiment.name = EXPERIMENT
    world.played.more[crossed.BANNER] = crossed.running(crossed.BANNER, "user")
    write(world, crossed.log(crossed.simulated(extra=3.0)), 1)
    asked = {"experiment": EXPERIMENT, "metrics": [f"{PROJECT}/metrics/spend"]}
    first = await world.viewer.call("GetInteractions", **asked)
    # Later half of the units see the other variant of the banner, too, and others come.
    late = [
        {"unit_id": f"green-on-{n}", "experiment": "banner", "variant": "off"} for n in range(40)
    ]
    new = [{"unit_id": f"new-{n}", "experiment": "checkout", "variant": "blue"} for n in range(9)]
    write(world, {"exposures": late + new}, 2)
    assert (await world.viewer.call("GetInteractions", **asked)) != first
    past = await world.viewer.call("GetInteractions", **asked, as_of=first.watermark)
    assert past == first
    remove(world, "conversions", {"conversions-1-0"})
    past = await world.viewer.call("GetInteractions", **asked, as_of=first.watermark)
    assert past.removed_since == results_pb2.RemovedSince(conversions=1)


async def test_the_effect_of_a_programme_as_it_was(world: World) -> None:
    names = {experiment for experiment, _ in finished.simulated()}
    finished.play(world, *(finished.over(name, "old", "new") for name in sorted(names)))
    write(world, finished.log(finished.simulated()), 1)
    asked = {"parent": PROJECT, "metric": f"{PROJECT}/metrics/spend"}
    first = await world.viewer.call("GetProgramEffect", **asked)
    more: list[dict[str, Any]] = [
        {"unit_id": "e0-new-0", "event_name": "purchase", "value": 5000.0}
    ]
    write(world, {"conversions": more}, 2)
    assert (await world.viewer.call("GetProgramEffect", **asked)) != first
    past = await world.viewer.call("GetProgramEffect", **asked, as_of=first.watermark)
    assert past == first
    ahead = ConsistencyToken("journal", 9).encode()
    refused = await world.viewer.refused("GetProgramEffect", **asked, as_of=ahead)
    assert (refused.code, refused.reason) == (Code.UNAVAILABLE, "NOT_YET_FRESH")


async def test_weights_of_a_cut_that_lost_rows_say_so(world: World) -> None:
    world.played.experiment.allocation = experiment_pb2.ALLOCATION_BANDIT
    write(world, bandit.log(bandit.two_periods()), 1)
    first = (await world.viewer.call("ComputeBanditWeights", **bandit.asked())).weights
    assert not first.HasField("removed_since")
    remove(world, "conversions", {"conversions-1-0", "conversions-1-1"})
    asked = bandit.asked() | {"as_of": first.watermark}
    again = (await world.viewer.call("ComputeBanditWeights", **asked)).weights
    assert again.removed_since == results_pb2.RemovedSince(conversions=2)
