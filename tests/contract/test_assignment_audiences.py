"""Audiences over the contract: a real server, a real store, generated clients."""

import asyncio
from typing import Any

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.json_format import ParseDict
from touchstone.assignment.v1 import schema_pb2
from touchstone.assignment.v1.condition_pb2 import Condition
from touchstone_assignment.conditions import IdSet

from shared.errors import Code
from tests.contract.audience_world import (
    Audience,
    AudienceWorld,
    compare,
    day,
    listed,
    named,
    open_world,
    rule,
    unit,
)
from tests.contract.test_assignment_service import PROJECT

CANADA = compare("country", "EQUAL", "CA")


@pytest.fixture
async def world(tmp_path):
    async with open_world(tmp_path) as found:
        yield found


def asking(audience: str, project: str = PROJECT) -> dict[str, Any]:
    return {"audience": named(audience, project)}


async def change(world: AudienceWorld, key: str, sent: Audience, *paths: str, **fields: Any) -> Any:
    sent.name = named(key)
    mask = FieldMask(paths=paths)
    return await world.demo.call("UpdateAudience", audience=sent, update_mask=mask, **fields)


async def refused_change(world: AudienceWorld, key: str, sent: Audience, *paths: str) -> Any:
    sent.name = named(key)
    mask = FieldMask(paths=paths)
    return await world.demo.refused("UpdateAudience", audience=sent, update_mask=mask)


async def refused_make(world: AudienceWorld, audience: Audience, key: str = "new") -> Any:
    return await world.demo.refused(
        "CreateAudience", parent=PROJECT, audience_id=key, audience=audience
    )


async def test_an_audience_comes_back_as_it_was_sent(world) -> None:
    await world.demo.make("canada", rule(CANADA))
    found = {
        "all": {
            "conditions": [
                asking("canada"),
                {"negated": compare("app", "VERSION_LESS", "2.0.0")},
                {"any": {"conditions": [compare("age", "GREATER", 17), compare("vip", "IS_SET")]}},
            ]
        }
    }
    sent = rule(found, display_name="Adults", description="Who may see the new page.")
    made = await world.demo.make("adults", sent)
    assert made.name == named("adults")
    assert made.condition == sent.condition
    assert (made.display_name, made.description) == ("Adults", "Who may see the new page.")
    assert made.etag
    assert made.create_time == made.update_time
    assert await world.demo.get("adults") == made
    grown_up = unit("u", country="CA", app="2.0.0", age=18)
    young = unit("u", country="CA", app="2.0.0", age=17)
    assert await world.demo.members("adults", grown_up, young, unit("u")) == [True, False, False]


async def test_audiences_are_listed_by_name_in_pages(world) -> None:
    for key in ("c", "a", "b"):
        await world.demo.make(key, rule(CANADA))
    first = await world.demo.call("ListAudiences", parent=PROJECT, page_size=2)
    assert [found.name for found in first.audiences] == [named("a"), named("b")]
    rest = await world.demo.call(
        "ListAudiences", parent=PROJECT, page_size=2, page_token=first.next_page_token
    )
    assert [found.name for found in rest.audiences] == [named("c")]
    assert rest.next_page_token == ""


async def test_a_running_experiment_decides_by_a_changed_audience_at_once(world) -> None:
    await world.demo.make("there", rule(CANADA))
    await world.demo.create(experiment={"targeting": ParseDict(asking("there"), Condition())})
    await world.demo.verb("Start")
    here, there = unit("u", country="FR"), unit("u", country="CA")
    assert await world.demo.reasons("button", here, there) == ["NOT_TARGETED", "SPLIT"]
    old = await world.demo.get("there")
    world.clock.advance(day(1))
    changed = await change(
        world, "there", rule(compare("country", "IN", "FR", "BE"), etag=old.etag), "condition"
    )
    assert changed.audience.config_version > old.config_version
    assert changed.audience.update_time.seconds == old.update_time.seconds + 86_400
    assert changed.audience.create_time == old.create_time
    assert await world.demo.reasons("button", here, there) == ["SPLIT", "NOT_TARGETED"]
    again = await change(world, "there", rule(compare("country", "IN", "FR", "BE")), "condition")
    assert again.audience == changed.audience
    stale = await refused_change(world, "there", rule(CANADA, etag=old.etag), "condition")
    assert (stale.code, stale.reason) == (Code.ABORTED, "STALE_ETAG")


async def test_what_is_asked_for_is_not_deleted(world) -> None:
    await world.demo.make("inner", rule(CANADA))
    await world.demo.make("outer", rule({"negated": asking("inner")}))
    await world.demo.create(experiment={"targeting": ParseDict(asking("inner"), Condition())})
    error = await world.demo.refused("DeleteAudience", name=named("inner"))
    assert (error.code, error.reason) == (Code.FAILED_PRECONDITION, "IN_USE")
    assert "audience outer" in error.message
    assert "experiment button" in error.message
    await world.demo.call("DeleteAudience", name=named("outer"))
    await world.demo.verb("Archive")
    await world.demo.call("DeleteAudience", name=named("inner"))
    gone = await world.demo.refused("GetAudience", name=named("inner"))
    assert gone.code is Code.NOT_FOUND
    remade = await world.demo.make("inner", listed())
    assert remade.id_list.unit_type == "user"


async def test_every_fault_of_a_condition_is_named(world) -> None:
    found = {
        "any": {
            "conditions": [
                compare("app", "VERSION_LESS", "2"),
                compare("name", "MATCHES", "("),
                asking("nowhere"),
            ]
        }
    }
    error = await refused_make(world, rule(found))
    assert (error.code, error.reason) == (Code.INVALID_ARGUMENT, "INVALID_FIELD")
    assert [violation.field for violation in error.violations] == [
        "audience.condition.any[0].compare.values[0]",
        "audience.condition.any[1].compare.values[0]",
        "audience.condition.any[2].audience",
    ]


async def test_declared_attributes_bind_audiences_and_are_bound_by_them(world) -> None:
    kind = schema_pb2.ATTRIBUTE_TYPE_NUMBER
    declared = schema_pb2.Attribute(type=kind)
    await world.demo.call("CreateAttribute", parent=PROJECT, attribute_id="age", attribute=declared)
    error = await refused_make(world, rule(compare("age", "CONTAINS", "1")))
    assert [violation.field for violation in error.violations] == [
        "audience.condition.compare.operator"
    ]
    assert "country" in (await refused_make(world, rule(CANADA))).message
    await world.demo.make("adults", rule(compare("age", "GREATER", 17)))
    used = await world.demo.refused("DeleteAttribute", name=f"{PROJECT}/attributes/age")
    assert "audience adults" in used.message


async def test_a_circle_is_refused_and_named(world) -> None:
    await world.demo.make("a", rule(CANADA))
    await world.demo.make("b", rule(asking("a")))
    await world.demo.make("c", rule({"negated": asking("b")}))
    error = await refused_change(world, "a", rule(asking("c")), "condition")
    assert error.code is Code.INVALID_ARGUMENT
    assert "circle: a -> c -> b -> a" in error.message
    alone = await refused_change(world, "a", rule(asking("a")), "condition")
    assert "circle: a -> a" in alone.message


async def test_a_change_that_others_cannot_bear_is_refused(world) -> None:
    """Levels count through audiences: the one below must not grow what stands on it too far."""
    deep = CANADA
    for _ in range(15):
        deep = {"negated": deep}
    await world.demo.make("below", rule(CANADA))
    above: dict[str, Any] = asking("below")
    for _ in range(5):
        above = {"negated": above}
    await world.demo.make("above", rule(above))
    error = await refused_change(world, "below", rule(deep), "condition")
    assert error.code is Code.INVALID_ARGUMENT
    assert "more than 20 levels" in error.message
    assert "audience above" in error.message
    await world.demo.create(experiment={"targeting": ParseDict(above, Condition())})
    await world.demo.call("DeleteAudience", name=named("above"))
    error = await refused_change(world, "below", rule(deep), "condition")
    assert "experiment button" in error.message


async def test_ids_are_uploaded_in_parts_and_put_in_place_at_once(world) -> None:
    made = await world.demo.make("vip", listed())
    assert (made.id_list.count, made.id_list.digest) == (0, "")
    units = [unit(f"u-{number}") for number in range(6)]
    await world.demo.create(experiment={"targeting": ParseDict(asking("vip"), Condition())})
    await world.demo.verb("Start")
    assert set(await world.demo.reasons("button", *units)) == {"NOT_TARGETED"}
    assert await world.demo.upload("vip", ["u-1", "u-2", "u-1"], part=1) == 1
    assert await world.demo.upload("vip", ["u-0"], part=0) == 2
    assert await world.demo.upload("vip", ["u-3"], part=0) == 2
    assert await world.demo.members("vip", *units) == [False] * 6
    checked = await world.demo.commit("vip", parts=2, validate_only=True)
    assert checked.id_list.count == 3
    assert await world.demo.members("vip", *units) == [False] * 6
    placed = await world.demo.commit("vip", parts=2, etag=made.etag)
    assert placed.id_list.count == 3
    assert placed.id_list.digest == IdSet.of_ids(["u-1", "u-2", "u-3"]).digest
    assert placed.config_version > made.config_version
    expected = [False, True, True, True, False, False]
    assert await world.demo.members("vip", *units) == expected
    reasons = await world.demo.reasons("button", *units)
    assert [reason == "SPLIT" for reason in reasons] == expected
    assert await world.demo.members("vip", unit("u-1", kind="device")) == [False]


async def test_another_list_replaces_the_first_and_the_same_one_changes_nothing(world) -> None:
    await world.demo.make("vip", listed())
    await world.demo.upload("vip", ["a", "b"])
    first = await world.demo.commit("vip")
    await world.demo.upload("vip", ["b", "a", "b"], name="again")
    assert await world.demo.commit("vip", name="again") == first
    await world.demo.upload("vip", ["c"], name="new")
    stale = await world.demo.refused(
        "CommitAudienceIds", name=named("vip"), upload_id="new", parts=1, etag="v0"
    )
    assert stale.reason == "STALE_ETAG"
    second = await world.demo.commit("vip", name="new", etag=first.etag)
    assert second.id_list.digest != first.id_list.digest
    assert await world.demo.members("vip", unit("a"), unit("c")) == [False, True]


async def test_a_commit_of_other_parts_than_were_received_is_refused(world) -> None:
    await world.demo.make("vip", listed())
    await world.demo.upload("vip", ["a"], part=0)
    await world.demo.upload("vip", ["b"], part=2)
    for parts, says in ((1, "beyond the last are [2]"), (3, "missing are [1]")):
        error = await world.demo.refused(
            "CommitAudienceIds", name=named("vip"), upload_id="up", parts=parts
        )
        assert error.code is Code.FAILED_PRECONDITION
        assert says in error.message
    world.clock.advance(day(1) * 1.1)
    swept = await world.demo.refused(
        "CommitAudienceIds", name=named("vip"), upload_id="up", parts=3
    )
    assert "has no parts" in swept.message


async def test_a_repeated_commit_gives_the_first_answer(world) -> None:
    await world.demo.make("vip", listed())
    await world.demo.upload("vip", ["a"])
    first = await world.demo.commit("vip", request_id="r1")
    assert await world.demo.commit("vip", request_id="r1") == first
    error = await world.demo.refused(
        "CommitAudienceIds", name=named("vip"), upload_id="up", parts=1
    )
    assert "committed already" in error.message


async def test_of_two_commits_at_once_one_is_kept_whole(world) -> None:
    await world.demo.make("vip", listed())
    for name in ("one", "two"):
        await world.demo.upload("vip", [f"{name}-{number}" for number in range(50)], name=name)
    await asyncio.gather(*(world.demo.commit("vip", name=name) for name in ("one", "two")))
    found = await world.demo.get("vip")
    assert found.id_list.count == 50
    one, two = await world.demo.members("vip", unit("one-7"), unit("two-7"))
    assert one != two


async def test_who_belongs_is_asked_of_lists_and_of_rules_that_name_them(world) -> None:
    await world.demo.make("vip", listed())
    await world.demo.make(
        "guest", rule({"all": {"conditions": [CANADA, {"negated": asking("vip")}]}})
    )
    people = unit("in", country="CA"), unit("out", country="CA"), unit("out", country="FR")
    assert await world.demo.members("vip", *people) == [False, False, False]
    await world.demo.upload("vip", ["in", "other"])
    assert await world.demo.members("vip", *people) == [False, False, False]
    await world.demo.commit("vip")
    assert await world.demo.members("vip", *people) == [True, False, False]
    assert await world.demo.members("guest", *people) == [False, True, False]
    await world.demo.upload("vip", ["out"], name="second")
    await world.demo.commit("vip", name="second")
    assert await world.demo.members("vip", *people) == [False, True, True]
    assert await world.demo.members("guest", *people) == [True, False, False]


async def test_rules_and_lists_are_not_mixed(world) -> None:
    await world.demo.make("vip", listed())
    await world.demo.make("canada", rule(CANADA))
    error = await refused_change(world, "vip", rule(CANADA), "condition")
    assert (error.code, error.reason) == (Code.FAILED_PRECONDITION, "WRONG_STATE")
    for method, fields in (
        ("UploadAudienceIds", {"ids": ["a"]}),
        ("CommitAudienceIds", {"parts": 1}),
    ):
        error = await world.demo.refused(method, name=named("canada"), upload_id="up", **fields)
        assert error.code is Code.FAILED_PRECONDITION
        assert "by condition" in error.message
    renamed = await change(world, "vip", Audience(display_name="VIP"), "display_name")
    assert renamed.audience.display_name == "VIP"
    assert renamed.audience.id_list.unit_type == "user"
    assert "a condition or an id_list" in (await refused_make(world, Audience())).message
    absent = await refused_change(world, "canada", Audience(), "condition")
    assert "absent; allowed: a condition" in absent.message.replace("'", "")


@pytest.mark.parametrize("path", ["id_list", "name", "etag", "condition.compare"])
async def test_a_mask_names_what_may_change(world, path) -> None:
    await world.demo.make("canada", rule(CANADA))
    error = await refused_change(world, "canada", rule(CANADA), path)
    assert error.code is Code.INVALID_ARGUMENT
    assert "display_name, description, condition" in error.message


async def test_an_older_list_stays_readable_for_older_versions(world) -> None:
    await world.demo.make("vip", listed())
    await world.demo.upload("vip", ["a"])
    first = await world.demo.commit("vip")
    await world.demo.upload("vip", ["b"], name="new")
    await world.demo.commit("vip", name="new")
    await world.demo.call("DeleteAudience", name=named("vip"))
    content = b""
    async for part in world.demo.stream("GetIdList", digest=first.id_list.digest):
        content += part.fingerprints
    assert IdSet.from_fingerprints(content).digest == first.id_list.digest


async def test_another_project_has_none_of_it(world) -> None:
    await world.demo.make("vip", listed())
    await world.demo.upload("vip", ["a"])
    theirs = "projects/other"
    calls: list[tuple[str, dict[str, Any]]] = [
        ("GetAudience", {}),
        ("DeleteAudience", {}),
        ("UploadAudienceIds", {"upload_id": "up", "part": 0, "ids": ["b"]}),
        ("CommitAudienceIds", {"upload_id": "up", "parts": 1}),
        ("TestAudience", {"units": [unit("a")]}),
    ]
    for method, fields in calls:
        for name in (named("vip"), named("vip", theirs)):
            error = await world.other.refused(method, name=name, **fields)
            assert error.code is Code.NOT_FOUND, (method, name)
    made = await world.other.call(
        "CreateAudience", parent=theirs, audience_id="vip", audience=listed()
    )
    assert made.audience.id_list.count == 0
    error = await world.other.refused(
        "CommitAudienceIds", name=named("vip", theirs), upload_id="up", parts=1
    )
    assert "has no parts" in error.message
    error = await world.other.refused(
        "CreateAudience", parent=theirs, audience_id="x", audience=rule(asking("vip"))
    )
    assert error.code is Code.NOT_FOUND
    assert (await world.demo.commit("vip")).id_list.count == 1


async def test_a_part_holds_50_000_ids_at_most(world) -> None:
    await world.demo.make("vip", listed())
    assert await world.demo.upload("vip", ["x"] * 50_000) == 1
    error = await world.demo.refused(
        "UploadAudienceIds", name=named("vip"), upload_id="up", ids=["x"] * 50_001
    )
    assert error.code is Code.INVALID_ARGUMENT


async def test_an_older_version_is_replayed_by_the_older_list(world) -> None:
    await world.demo.make("vip", listed())
    await world.demo.upload("vip", ["a"])
    await world.demo.commit("vip")
    await world.demo.create(experiment={"targeting": ParseDict(asking("vip"), Condition())})
    started = await world.demo.verb("Start")
    await world.demo.upload("vip", ["b"], name="new")
    await world.demo.commit("vip", name="new")
    units = [unit("a"), unit("b")]
    assert await world.demo.reasons("button", *units) == ["NOT_TARGETED", "SPLIT"]
    replayed = await world.demo.call(
        "Assign", units=units, experiments=["button"], config_version=started.config_version
    )
    assert [bool(row.decisions[0].variant) for row in replayed.units] == [True, False]


async def test_twenty_thousand_ids_decide_exactly(world) -> None:
    await world.demo.make("many", listed())
    ids = [f"customer-{number:07d}" for number in range(20_000)]
    for part in range(4):
        await world.demo.upload("many", ids[part::4], part=part)
    assert (await world.demo.commit("many", parts=4)).id_list.count == 20_000
    targeting = ParseDict(asking("many"), Condition())
    await world.demo.create(experiment={"targeting": targeting})
    await world.demo.verb("Start")
    inside = [unit(found) for found in ids[::10]]
    outside = [unit(f"customer-{number:07d}") for number in range(20_000, 22_000)]
    reasons = await world.demo.reasons("button", *inside, *outside)
    assert reasons == ["SPLIT"] * 2_000 + ["NOT_TARGETED"] * 2_000
