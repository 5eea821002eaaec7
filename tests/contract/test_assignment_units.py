"""Forgetting a unit: nothing of it stays in the state database, and nothing of others goes."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from touchstone.assignment.v1 import experiment_service_pb2
from touchstone.common.v1.unit_pb2 import UnitId

from tests.contract.serving_world import PROJECT, World, open_world, unit

EXPERIMENT = f"{PROJECT}/experiments/button"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path, assignment_http_address="") as found:
        yield found


async def force(world: World, kind: str, name: str) -> None:
    forced = experiment_service_pb2.ForcedVariant(unit=UnitId(type=kind, id=name), variant="green")
    await world.call("SetForcedVariant", experiment=EXPERIMENT, forced_variant=forced)


async def forced(world: World) -> list[tuple[str, str]]:
    reply = await world.call("ListForcedVariants", experiment=EXPERIMENT)
    return [(one.unit.type, one.unit.id) for one in reply.forced_variants]


def stored(world: World) -> str:
    """Every text of the tables of assignment that may name a unit."""
    database = world.running.application.platform.database
    with database.read() as connection:
        tables = ("assignment_resources", "assignment_resource_versions", "assignment_sticky")
        return "\n".join(
            str(tuple(row))
            for name in tables
            for row in connection.execute(sa.text(f"SELECT * FROM {name}"))
        )


async def test_what_it_was_served_first_and_what_is_forced_for_it_goes(world: World) -> None:
    await world.start("button", anonymous_unit_type="device")
    await world.variants([unit(user="u1", device="d1"), unit(user="u2")], "button")
    for kind, name in (("user", "u1"), ("user", "u2"), ("device", "x/user/u1")):
        await force(world, kind, name)
    reply = await world.call("ForgetUnit", parent=PROJECT, unit=UnitId(type="user", id="u1"))
    assert (reply.kept_variants, reply.forced_variants) == (1, 1)
    assert await forced(world) == [("device", "x/user/u1"), ("user", "u2")]
    assert "button/user/u1" not in stored(world)
    assert await world.variants([unit(user="u2")], "button") == [("green", "FORCED", False)]
    assert (await world.variants([unit(device="d1")], "button"))[0][1] == "STICKY"


async def test_what_was_forced_before_goes_from_older_versions_too(world: World) -> None:
    await world.start("button")
    await force(world, "user", "u1")
    gone = UnitId(type="user", id="u1")
    await world.call("ClearForcedVariant", experiment=EXPERIMENT, unit=gone)
    assert "button/user/u1" in stored(world)
    reply = await world.call("ForgetUnit", parent=PROJECT, unit=gone)
    assert (reply.kept_variants, reply.forced_variants) == (0, 1)
    assert "button/user/u1" not in stored(world)
    again = await world.call("ForgetUnit", parent=PROJECT, unit=gone)
    assert (again.kept_variants, again.forced_variants) == (0, 0)


async def test_a_trial_forgets_nothing(world: World) -> None:
    await world.start("button", sticky=True)
    before = await world.variants([unit(user="u1")], "button")
    await world.call(
        "ForgetUnit", parent=PROJECT, unit=UnitId(type="user", id="u1"), validate_only=True
    )
    assert await world.variants([unit(user="u1")], "button") == [(before[0][0], "STICKY", False)]
    await world.call("ForgetUnit", parent=PROJECT, unit=UnitId(type="user", id="u1"))
    assert (await world.variants([unit(user="u1")], "button"))[0][1] == "SPLIT"


async def test_another_project_keeps_its_units(world: World) -> None:
    error = await world.refused(
        "ForgetUnit", parent="projects/other", unit=UnitId(type="user", id="u1")
    )
    assert error.code.name == "NOT_FOUND"
