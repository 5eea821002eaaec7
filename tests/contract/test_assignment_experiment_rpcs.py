"""Experiments over the contract: every field, what may change, the switch, weights and forcing."""

import asyncio
import datetime as dt
from typing import Any

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.json_format import ParseDict
from google.protobuf.struct_pb2 import Value
from google.protobuf.timestamp_pb2 import Timestamp
from touchstone.assignment.v1 import experiment_pb2, experiment_service_pb2
from touchstone.assignment.v1.condition_pb2 import Condition
from touchstone.common.v1.unit_pb2 import UnitId

from services.assignment.adapters.sql import SqlConfiguration, SqlConfigurationReader
from services.assignment.domain.forced import ForcedVariant, forced_id
from shared.errors import Code
from shared.security.audit import SqlAuditLog
from tests.contract import test_assignment_service as serving
from tests.contract.test_assignment_service import PROJECT, START, World

world = serving.world
NAME = f"{PROJECT}/experiments/button"
Variant = experiment_pb2.Variant
State = experiment_pb2.Experiment


def at(hours: float) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(START + dt.timedelta(hours=hours))
    return stamp


def text(value: str) -> Value:
    return Value(string_value=value)


def condition(**found: Any) -> Condition:
    return ParseDict(found, Condition())


GERMAN = condition(
    all={
        "conditions": [
            {
                "compare": {
                    "attribute": "country",
                    "operator": "OPERATOR_IN",
                    "values": ["DE", "AT"],
                }
            },
            {
                "negated": {
                    "compare": {"attribute": "age", "operator": "OPERATOR_LESS", "values": [18]}
                }
            },
        ]
    }
)


async def change(world: World, *paths: str, key: str = "button", **fields: Any) -> Any:
    sent = experiment_pb2.Experiment(name=f"{PROJECT}/experiments/{key}", **fields)
    reply = await world.demo.call(
        "UpdateExperiment", experiment=sent, update_mask=FieldMask(paths=paths)
    )
    return reply.experiment


async def refused_change(world: World, *paths: str, **fields: Any) -> Any:
    sent = experiment_pb2.Experiment(name=NAME, **fields)
    return await world.demo.refused(
        "UpdateExperiment", experiment=sent, update_mask=FieldMask(paths=paths)
    )


FIELDS: dict[str, Any] = {
    "value_type": experiment_pb2.VALUE_TYPE_STRING,
    "variants": [
        Variant(key="control", weight=5000, value=text("blau")),
        Variant(key="green", weight=5000, value=text("grün")),
    ],
    "targeting": GERMAN,
    "prerequisites": [
        experiment_pb2.Prerequisite(experiment=f"{PROJECT}/experiments/first", variants=["green"])
    ],
    "sticky": True,
    "anonymous_unit_type": "device",
    "schedule": experiment_pb2.Schedule(
        start_time=at(1),
        stop_time=at(9),
        ramp=[
            experiment_pb2.RampStage(time=at(2), traffic_slots=500),
            experiment_pb2.RampStage(time=at(3), traffic_slots=10_000),
        ],
    ),
    "observed_unit_type": "customer",
}


async def test_every_field_comes_back_as_it_was_sent(world: World) -> None:
    await world.demo.create("first")
    made = await world.demo.create(experiment={**FIELDS, "traffic_slots": 100})
    for field, sent in FIELDS.items():
        found = getattr(made, field)
        assert (list(found) if isinstance(sent, list) else found) == sent, field
    assert (await world.demo.verb("Get")) == made
    windows = experiment_pb2.Switchback(window_s=3600, washout_s=60, region_attribute="country")
    switched = await world.demo.create("switched", experiment={"switchback": windows})
    assert switched.switchback == windows
    bandit = experiment_pb2.ALLOCATION_BANDIT
    assert (await world.demo.create("b", experiment={"allocation": bandit})).allocation == bandit
    plain = await world.demo.create("plain")
    assert plain.value_type == experiment_pb2.VALUE_TYPE_KEY
    assert plain.allocation == experiment_pb2.ALLOCATION_FIXED
    for field in ("targeting", "schedule", "switchback"):
        assert not plain.HasField(field)


async def test_a_draft_takes_every_field_by_its_mask_and_gives_it_up_again(world: World) -> None:
    await world.demo.create("first")
    plain = await world.demo.create(experiment={"traffic_slots": 100})
    changed = await change(world, *FIELDS, **FIELDS)
    for field, sent in FIELDS.items():
        found = getattr(changed, field)
        assert (list(found) if isinstance(sent, list) else found) == sent, field
    back = {field: getattr(plain, field) for field in FIELDS}
    back = {k: None if k in ("targeting", "schedule") else v for k, v in back.items()}
    restored = await change(world, *FIELDS, **back)
    for field in ("config_version", "etag", "update_time"):
        restored.ClearField(field)
        plain.ClearField(field)
    assert restored == plain


@pytest.mark.parametrize("field", [f for f in FIELDS if f != "schedule"])
async def test_what_decides_is_refused_once_it_runs(world: World, field: str) -> None:
    await world.demo.create("first")
    await world.demo.create(experiment={"traffic_slots": 100})
    await world.demo.verb("Start")
    error = await refused_change(world, field, **{field: FIELDS[field]})
    assert error.code in (Code.FAILED_PRECONDITION, Code.INVALID_ARGUMENT)
    assert field in error.message
    await change(world, "schedule", schedule=experiment_pb2.Schedule(stop_time=at(9)))


@pytest.mark.parametrize(
    "path", ["salt", "unit_type", "hash_version", "allocation", "layer", "killed"]
)
async def test_what_is_fixed_at_creation_is_in_no_mask(world: World, path: str) -> None:
    await world.demo.create()
    error = await refused_change(world, path)
    assert (error.code, error.reason) == (Code.INVALID_ARGUMENT, "INVALID_FIELD")
    assert "traffic_slots" in error.message


async def test_every_fault_of_a_draft_is_named_at_once(world: World) -> None:
    error = await world.demo.refused(
        "CreateExperiment",
        parent=PROJECT,
        experiment_id="button",
        experiment=experiment_pb2.Experiment(
            value_type=experiment_pb2.VALUE_TYPE_BOOLEAN,
            variants=[
                Variant(key="default", weight=9000, value=text("no")),
                Variant(key="green", weight=0),
            ],
            anonymous_unit_type="user",
            sticky=True,
            switchback=experiment_pb2.Switchback(window_s=60, washout_s=60),
            schedule=experiment_pb2.Schedule(start_time=at(1), stop_time=at(1)),
        ),
    )
    assert error.code is Code.INVALID_ARGUMENT
    assert {violation.field for violation in error.violations} == {
        "variants",
        "variants[0].key",
        "variants[0].value",
        "variants[1].value",
        "variants[1].weight",
        "anonymous_unit_type",
        "sticky",
        "switchback.washout_s",
        "schedule.stop_time",
    }


async def test_an_audience_of_another_project_is_not_there(world: World) -> None:
    foreign = condition(audience="projects/other/audiences/mine")
    error = await world.demo.refused(
        "CreateExperiment",
        parent=PROJECT,
        experiment_id="button",
        experiment=experiment_pb2.Experiment(
            variants=[Variant(key="a", weight=5000), Variant(key="b", weight=5000)],
            targeting=foreign,
        ),
    )
    assert error.code is Code.NOT_FOUND


async def test_a_dropped_variant_is_read_back_and_the_mask_may_name_it_again(world: World) -> None:
    made = await world.demo.create()
    await world.demo.verb("Start")
    variants = list(made.variants)
    variants[1].dropped = True
    dropped = await change(world, "variants", variants=variants)
    assert [v.dropped for v in dropped.variants] == [False, True]
    variants[1].dropped = False
    error = await refused_change(world, "variants", variants=variants)
    assert (error.code, error.reason) == (Code.FAILED_PRECONDITION, "WRONG_STATE")
    variants[0].dropped = variants[1].dropped = True
    error = await refused_change(world, "variants", variants=variants)
    assert (error.code, error.reason) == (Code.INVALID_ARGUMENT, "INVALID_FIELD")


async def test_what_others_need_is_not_archived(world: World) -> None:
    await world.demo.create("first")
    needed = [experiment_pb2.Prerequisite(experiment=f"{PROJECT}/experiments/first")]
    await world.demo.create(experiment={"prerequisites": needed})
    error = await world.demo.refused("ArchiveExperiment", name=f"{PROJECT}/experiments/first")
    assert (error.code, error.reason) == (Code.FAILED_PRECONDITION, "WRONG_STATE")
    assert "button" in error.message
    circle = [experiment_pb2.Prerequisite(experiment=NAME)]
    sent = experiment_pb2.Experiment(name=f"{PROJECT}/experiments/first", prerequisites=circle)
    error = await world.demo.refused(
        "UpdateExperiment", experiment=sent, update_mask=FieldMask(paths=["prerequisites"])
    )
    assert "first -> button -> first" in error.message
    await world.demo.verb("Archive")
    assert (await world.demo.verb("Archive", "first")).state == State.STATE_ARCHIVED


async def test_two_changes_at_once_never_close_a_circle(world: World) -> None:
    keys = [f"e{n}" for n in range(6)]
    for key in keys:
        await world.demo.create(key)

    async def need(key: str, other: str) -> None:
        needed = [experiment_pb2.Prerequisite(experiment=f"{PROJECT}/experiments/{other}")]
        await change(world, "prerequisites", key=key, prerequisites=needed)

    ring = zip(keys, [*keys[1:], keys[0]], strict=True)
    outcomes = await asyncio.gather(*(need(*pair) for pair in ring), return_exceptions=True)
    assert sum(outcome is not None for outcome in outcomes) == 1


async def test_the_kill_switch_needs_no_etag_and_says_why(world: World) -> None:
    draft = await world.demo.create()
    await world.demo.verb("Start", etag=draft.etag)
    killed = await world.demo.verb("Kill", reason="wrong prices")
    assert (killed.killed, killed.kill_reason) == (True, "wrong prices")
    assert killed.state == State.STATE_RUNNING
    assert (await world.demo.verb("Kill", reason="wrong prices")) == killed
    error = await world.demo.refused("ReviveExperiment", name=NAME, etag=draft.etag)
    assert (error.code, error.reason) == (Code.ABORTED, "STALE_ETAG")
    revived = await world.demo.verb("Revive", etag=killed.etag)
    assert (revived.killed, revived.kill_reason) == (False, "")
    assert revived.config_version > killed.config_version
    error = await world.demo.refused("KillExperiment", name=NAME, reason="")
    assert error.code is Code.INVALID_ARGUMENT


async def test_weights_of_a_bandit_are_versions_that_stay_readable(world: World) -> None:
    bandit = {"allocation": experiment_pb2.ALLOCATION_BANDIT}
    await world.demo.create(experiment=bandit)
    first = await world.demo.verb("Start")

    async def weigh(**weights: int) -> Any:
        reply = await world.demo.call("SetVariantWeights", name=NAME, weights=weights)
        return reply.experiment

    versions = {first.config_version: [5000, 5000]}
    for control in (0, 2500, 10_000):
        found = await weigh(control=control, green=10_000 - control)
        assert [v.weight for v in found.variants] == [control, 10_000 - control]
        versions[found.config_version] = [control, 10_000 - control]
    assert len(versions) == 4
    with SqlConfigurationReader(world.platform.database).read() as configuration:
        for version, weights in versions.items():
            kept = configuration.load("demo", version).experiments["button"]
            assert [v.weight for v in kept.design.variants] == weights
    # What was read with a weight of 0 may be sent back in a change of something else.
    found = await weigh(control=0, green=10_000)
    renamed = await change(world, "display_name", display_name="B", variants=list(found.variants))
    assert [v.weight for v in renamed.variants] == [0, 10_000]


@pytest.mark.parametrize(
    ("weights", "part"),
    [
        ({"control": 5000, "green": 4999}, "sum to 9999"),
        ({"control": 0, "green": 0}, "sum to 0"),
        ({"control": 5000, "blue": 5000}, "'blue'"),
        ({"control": 5000, "blue": 5000}, "lack ['green']"),
        ({"control": 10_000, "green": 10_000}, "sum to 20000"),
    ],
)
async def test_weights_that_cannot_be_are_refused(
    world: World,
    weights: dict[str, int],
    part: str,
) -> None:
    await world.demo.create(experiment={"allocation": experiment_pb2.ALLOCATION_BANDIT})
    error = await world.demo.refused("SetVariantWeights", name=NAME, weights=weights)
    assert (error.code, error.reason) == (Code.INVALID_ARGUMENT, "INVALID_FIELD")
    assert part in error.message


async def test_a_fixed_split_takes_no_weights(world: World) -> None:
    await world.demo.create()
    await world.demo.verb("Start")
    weights = {"control": 1, "green": 9999}
    error = await world.demo.refused("SetVariantWeights", name=NAME, weights=weights)
    assert (error.code, error.reason) == (Code.FAILED_PRECONDITION, "WRONG_STATE")
    assert "BANDIT" in error.message


def forced(unit: str, variant: str = "green", kind: str = "user", note: str = "") -> Any:
    return experiment_service_pb2.ForcedVariant(
        unit=UnitId(type=kind, id=unit), variant=variant, note=note
    )


async def force(world: World, *units: str) -> None:
    for unit in units:
        await world.demo.call("SetForcedVariant", experiment=NAME, forced_variant=forced(unit))


async def test_a_forced_variant_is_set_replaced_listed_and_taken_back(world: World) -> None:
    await world.demo.create()
    first = forced("Ada/7", note="her phone")
    reply = await world.demo.call("SetForcedVariant", experiment=NAME, forced_variant=first)
    assert reply.forced_variant.create_time.ToDatetime(dt.UTC) == START
    assert reply.forced_variant.note == "her phone"
    world.clock.advance(dt.timedelta(hours=1))
    other = forced("Ada/7", "control")
    reply = await world.demo.call("SetForcedVariant", experiment=NAME, forced_variant=other)
    assert reply.forced_variant.variant == "control"
    assert reply.forced_variant.create_time.ToDatetime(dt.UTC) == START
    units = ["ada/7", "Zoë", "a b", "%", "007", "7"]
    await force(world, *units)
    listed: list[str] = []
    token = ""
    while True:
        page = await world.demo.call(
            "ListForcedVariants", experiment=NAME, page_size=2, page_token=token
        )
        listed += [found.unit.id for found in page.forced_variants]
        token = page.next_page_token
        if not token:
            break
    assert listed == sorted(["Ada/7", *units])
    await world.demo.call(
        "ClearForcedVariant", experiment=NAME, unit=UnitId(type="user", id="Ada/7")
    )
    reply = await world.demo.call("ListForcedVariants", experiment=NAME)
    assert [found.unit.id for found in reply.forced_variants] == sorted(units)
    error = await world.demo.refused(
        "ClearForcedVariant", experiment=NAME, unit=UnitId(type="user", id="Ada/7")
    )
    assert error.code is Code.NOT_FOUND


def force_many(world: World, count: int) -> None:
    """Units u0, u1 and so on are forced at once, as many calls would have."""
    with world.platform.database.begin() as connection:
        configuration = SqlConfiguration(connection)
        version = configuration.next_revision("demo", START).config_version
        for unit in (f"u{n}" for n in range(count)):
            key = forced_id("button", "user", unit)
            configuration.forced.insert(
                ForcedVariant("demo", key, version, START, "button", "user", unit, "green")
            )


async def test_the_list_of_an_experiment_holds_nobody_elses(world: World) -> None:
    for key in ("button", "button-2", "butto"):
        await world.demo.create(key)
        await world.demo.call(
            "SetForcedVariant",
            experiment=f"{PROJECT}/experiments/{key}",
            forced_variant=forced(key),
        )
        reply = await world.demo.call(
            "ListForcedVariants", experiment=f"{PROJECT}/experiments/{key}"
        )
        assert [found.unit.id for found in reply.forced_variants] == [key]
    assert (await world.other.refused("ListForcedVariants", experiment=NAME)).code is Code.NOT_FOUND


@pytest.mark.parametrize(
    ("sent", "part"),
    [
        (forced("u", "blue"), "'blue'"),
        (forced("u", kind="device"), "'device'"),
        (forced(""), "id"),
        (forced("a\nb"), "id"),
    ],
)
async def test_what_cannot_be_forced_is_refused(world: World, sent: Any, part: str) -> None:
    await world.demo.create()
    error = await world.demo.refused("SetForcedVariant", experiment=NAME, forced_variant=sent)
    assert error.code is Code.INVALID_ARGUMENT
    assert part in error.message


async def test_an_anonymous_id_may_be_forced_too(world: World) -> None:
    await world.demo.create(experiment={"anonymous_unit_type": "device"})
    sent = forced("d-1", kind="device")
    reply = await world.demo.call("SetForcedVariant", experiment=NAME, forced_variant=sent)
    assert (reply.forced_variant.unit.type, reply.forced_variant.unit.id) == ("device", "d-1")


async def test_forcing_is_versioned_and_every_change_is_audited(world: World) -> None:
    made = await world.demo.create()
    await force(world, "u1")
    with SqlConfigurationReader(world.platform.database).read() as configuration:
        now = configuration.load("demo")
        assert [found.unit_id for found in now.forced.values()] == ["u1"]
        assert configuration.load("demo", made.config_version).forced == {}
    await world.demo.verb("Kill", reason="fire")
    await world.demo.verb("Revive")
    await world.demo.call("ClearForcedVariant", experiment=NAME, unit=UnitId(type="user", id="u1"))
    with world.platform.database.read() as connection:
        entries = SqlAuditLog(connection, world.platform.audit_keys).entries("demo")
    methods = [entry.event.method.rpartition("/")[2] for entry in entries]
    assert methods == [
        "CreateExperiment",
        "SetForcedVariant",
        "KillExperiment",
        "ReviveExperiment",
        "ClearForcedVariant",
    ]
    assert {entry.event.resource for entry in entries} == {NAME}
    with SqlConfigurationReader(world.platform.database).read() as configuration:
        assert configuration.load("demo").forced == {}
        assert len(configuration.load("demo", now.config_version).forced) == 1


async def test_what_only_the_server_can_decide_says_so(world: World) -> None:
    bandit = {"allocation": experiment_pb2.ALLOCATION_BANDIT}
    assert (await world.demo.create("first", experiment=bandit)).server_only
    assert (await world.demo.create("second", experiment={"sticky": True})).server_only
    assert not (await world.demo.create()).server_only
    force_many(world, 100)
    assert not (await world.demo.verb("Get")).server_only
    await force(world, "u100")
    assert (await world.demo.verb("Get")).server_only
    listed = (await world.demo.call("ListExperiments", parent=PROJECT)).experiments
    assert [found.server_only for found in listed] == [True] * 3
    await world.demo.call("ClearForcedVariant", experiment=NAME, unit=UnitId(type="user", id="u7"))
    listed = (await world.demo.call("ListExperiments", parent=PROJECT)).experiments
    assert {found.name.rpartition("/")[2] for found in listed if found.server_only} == {
        "first",
        "second",
    }


async def test_archiving_takes_back_what_is_forced_and_nobody_elses(world: World) -> None:
    await world.demo.create("button-2")
    await world.demo.create()
    force_many(world, 3)
    other = f"{PROJECT}/experiments/button-2"
    await world.demo.call("SetForcedVariant", experiment=other, forced_variant=forced("u1"))
    await world.demo.verb("Archive")
    with SqlConfigurationReader(world.platform.database).read() as configuration:
        now = configuration.load("demo")
        assert [found.experiment_id for found in now.forced.values()] == ["button-2"]
        assert len(configuration.load("demo", now.config_version - 1).forced) == 4
    error = await world.demo.refused(
        "SetForcedVariant", experiment=NAME, forced_variant=forced("u1")
    )
    assert (error.code, error.reason) == (Code.FAILED_PRECONDITION, "WRONG_STATE")


async def test_forced_variants_of_an_experiment_are_at_most_1000(world: World) -> None:
    await world.demo.create()
    force_many(world, 999)
    await force(world, "u999")
    error = await world.demo.refused(
        "SetForcedVariant", experiment=NAME, forced_variant=forced("one-more")
    )
    assert (error.code, error.reason) == (Code.RESOURCE_EXHAUSTED, "LIMIT_EXCEEDED")
    assert "1000" in error.message
    replaced = forced("u7", "control")
    await world.demo.call("SetForcedVariant", experiment=NAME, forced_variant=replaced)
    reply = await world.demo.call("ListForcedVariants", experiment=NAME, page_size=5000)
    assert len(reply.forced_variants) == 1000
    assert not reply.next_page_token
    await world.demo.call("ClearForcedVariant", experiment=NAME, unit=UnitId(type="user", id="u7"))
    await force(world, "one-more")


async def test_killed_forced_and_dropped_decide_as_they_say(world: World) -> None:
    async def decided(unit: str) -> tuple[str, str]:
        reply = await world.demo.assign([unit], "button")
        decision = reply.units[0].decisions[0]
        name = serving.REASON.Name(decision.reason).removeprefix("DECISION_REASON_")
        return decision.variant, name

    made = await world.demo.create()
    await force(world, "qa")
    assert await decided("qa") == ("green", "FORCED")
    assert await decided("u1") == ("", "NOT_RUNNING")
    await world.demo.verb("Start")
    before = {f"u{n}": await decided(f"u{n}") for n in range(30)}
    assert {variant for variant, _ in before.values()} == {"control", "green"}
    variants = list(made.variants)
    variants[1].dropped = True
    await change(world, "variants", variants=variants)
    for unit, (variant, _) in before.items():
        expected = ("control", "SPLIT") if variant == "control" else ("", "VARIANT_DROPPED")
        assert await decided(unit) == expected
    await world.demo.verb("Kill", reason="fire")
    assert {await decided("qa"), await decided("u1")} == {("", "KILLED")}
    await world.demo.verb("Revive")
    assert await decided("qa") == ("green", "FORCED")
