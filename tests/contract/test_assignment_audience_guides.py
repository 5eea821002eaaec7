"""What the guide to targeting says is done by a running service: its file, and its upload."""

import asyncio
import itertools
import re
from pathlib import Path
from typing import Any

import grpc
import pytest

from services.cli.ascode.resources import load
from tests.contract.audience_world import AudienceWorld, open_world, unit
from tests.contract.test_assignment_service import PROJECT

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docs" / "examples" / "targeting.yaml"
GUIDE = ROOT / "docs" / "how-to" / "target-units.md"


@pytest.fixture
async def world(tmp_path):
    async with open_world(tmp_path) as found:
        yield found


async def apply(world: AudienceWorld) -> None:
    """Everything of the file, in its order; its experiments run."""
    for declared in load([FILE], "demo"):
        if declared.kind.name == "Audience":
            await world.demo.make(declared.resource_id, declared.message)
        else:
            await world.demo.call(
                "CreateExperiment",
                parent=PROJECT,
                experiment_id=declared.resource_id,
                experiment=declared.message,
            )
            await world.demo.verb("Start", declared.resource_id)


async def treatments(world: AudienceWorld, unit_id: str, **profile: Any) -> set[str]:
    """The experiments that a unit is in."""
    sent = unit(unit_id, **profile)
    reply = await world.demo.call("Assign", units=[sent])
    keys = [found.experiment for found in reply.experiments]
    decisions = reply.units[0].decisions
    return {key for key, decision in zip(keys, decisions, strict=True) if decision.variant}


async def test_every_quadrant_has_its_treatment(world) -> None:
    await apply(world)
    for often, much in itertools.product((True, False), repeat=2):
        for offset in (0, 1, 1000):
            profile = {
                "payments_30d": 20 + offset if often else max(0, 19 - offset),
                "amount_30d": 5000 + offset if much else 4999.99 - offset,
            }
            expected = {
                (True, True): {"vip-care"},
                (True, False): {"small-loan"},
                (False, True): {"cross-selling"},
                (False, False): set(),
            }[often, much]
            assert await treatments(world, f"m-{offset}", **profile) == expected


@pytest.mark.parametrize(
    "profile", [{}, {"payments_30d": 3}, {"amount_30d": 3}, {"payments_30d": "3"}]
)
async def test_who_has_no_profile_is_in_no_quadrant(world, profile) -> None:
    await apply(world)
    assert await treatments(world, "m-1", **profile) == set()
    for quadrant in ("often-much", "often-little", "seldom-much", "seldom-little"):
        assert await world.demo.members(quadrant, unit("m-1", **profile)) == [False]


async def test_every_profile_is_in_exactly_one_quadrant(world) -> None:
    await apply(world)
    quadrants = ("often-much", "often-little", "seldom-much", "seldom-little")
    units = [
        unit(f"m-{payments}-{amount}", payments_30d=payments, amount_30d=amount)
        for payments in (0, 19, 20, 21, 1000)
        for amount in (0, 4999.99, 5000, 5000.01, 1e9)
    ]
    rows = await asyncio.gather(*(world.demo.members(key, *units) for key in quadrants))
    assert [sum(belongs) for belongs in zip(*rows, strict=True)] == [1] * len(units)


GONE: dict[str, Any] = {
    "payments_ever": 100,
    "amount_ever": 10_000,
    "payments_30d": 9,
    "amount_30d": 999.99,
}


async def test_who_left_is_recalled(world) -> None:
    await apply(world)
    assert "recall" in await treatments(world, "m-1", **GONE)
    for other in (
        {"payments_ever": 99},
        {"amount_ever": 9_999.99},
        {"payments_30d": 10},
        {"amount_30d": 1_000},
        {"payments_ever": None},
    ):
        assert "recall" not in await treatments(world, "m-1", **(GONE | other)), other


async def test_recall_tells_staff_in_one_variant_only(world) -> None:
    await apply(world)
    units = [unit(f"m-{number}", **GONE) for number in range(500)]
    reply = await world.demo.call("Assign", units=units, experiments=["recall"])
    payloads = {found.key: dict(found.payload.items()) for found in reply.experiments[0].variants}
    assert payloads["tell-staff"] == {"tell": "staff", "with": "profile"}
    assert not payloads["control"]
    got = [row.decisions[0].variant for row in reply.units]
    assert {"control", "tell-staff"} == set(got)


def test_the_upload_of_the_guide_works(tmp_path) -> None:
    """The block of the page as it stands, run against a server of its own."""
    (block,) = (
        found
        for found in re.findall(r"```python\n(.*?)```", GUIDE.read_text("utf-8"), re.DOTALL)
        if "UploadAudienceIds" in found
    )

    async def play() -> None:
        async with open_world(tmp_path) as world:
            client: Any = world.demo
            names: dict[str, Any] = {
                "ids": [f"customer-{number}" for number in range(60_000)],
                "metadata": client._metadata,
            }
            text = block.replace("projects/acme", PROJECT)
            await asyncio.to_thread(run, text, names, world.address)
            members = await client.members("winners", unit("customer-59999"), unit("x"))
            assert members == [True, False]

    asyncio.run(play())


def run(text: str, names: dict[str, Any], address: str) -> None:
    with grpc.insecure_channel(address) as channel:
        exec(text, names | {"channel": channel})
