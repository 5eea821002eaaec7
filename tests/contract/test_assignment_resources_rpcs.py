"""Layers, domains, holdouts and declarations over the contract, and what they make of decisions."""

import asyncio
import datetime as dt
import json
from typing import Any

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.struct_pb2 import NullValue, Value
from touchstone.assignment.v1 import domain_pb2, experiment_pb2, layer_pb2, schema_pb2

from shared.errors import Code
from shared.security.audit import SqlAuditLog
from tests.contract import test_assignment_service as serving
from tests.contract.test_assignment_service import PROJECT, REASON, START, World, user

world = serving.world
Variant = experiment_pb2.Variant
UNITS = [f"u{number}" for number in range(1000)]


def value(found: Any) -> Value:
    return ParseDict(found, Value())


def parameter(key: str, default: object) -> layer_pb2.Parameter:
    return layer_pb2.Parameter(key=key, default_value=value(default), description=f"of {key}")


def setting(**payload: Any) -> list[Variant]:
    control = Variant(key="control", weight=5000)
    green = Variant(key="green", weight=5000)
    green.payload.update(payload)
    return [control, green]


def layer_name(key: str) -> str:
    return f"{PROJECT}/layers/{key}"


async def create_layer(world: World, key: str, **fields: Any) -> layer_pb2.Layer:
    sent = layer_pb2.Layer(**fields)
    reply = await world.demo.call("CreateLayer", parent=PROJECT, layer_id=key, layer=sent)
    found: layer_pb2.Layer = reply.layer
    return found


async def create_domain(world: World, key: str, layer: str, slots: int) -> domain_pb2.Domain:
    sent = domain_pb2.Domain(layer=layer_name(layer), traffic_slots=slots)
    reply = await world.demo.call("CreateDomain", parent=PROJECT, domain_id=key, domain=sent)
    found: domain_pb2.Domain = reply.domain
    return found


async def create_holdout(world: World, key: str, **fields: Any) -> domain_pb2.Holdout:
    sent = domain_pb2.Holdout(**fields)
    reply = await world.demo.call("CreateHoldout", parent=PROJECT, holdout_id=key, holdout=sent)
    found: domain_pb2.Holdout = reply.holdout
    return found


async def start(world: World, key: str, **fields: Any) -> None:
    await world.demo.create(key, experiment=fields)
    await world.demo.verb("Start", key)


async def reasons(world: World, key: str, **fields: Any) -> list[str]:
    reply = await world.demo.call(
        "Assign", units=[user(unit) for unit in UNITS], experiments=[key], **fields
    )
    names = [REASON.Name(unit.decisions[0].reason) for unit in reply.units]
    return [name.removeprefix("DECISION_REASON_") for name in names]


async def test_a_layer_with_parameters_says_what_code_asks_for(world: World) -> None:
    made = await create_layer(world, "checkout", parameters=[parameter("size", 1.5)])
    assert made.kind == layer_pb2.LAYER_KIND_EXPERIMENT
    assert list(made.parameters) == [parameter("size", 1.5)]
    launches = await create_layer(
        world,
        "launches",
        kind=layer_pb2.LAYER_KIND_LAUNCH,
        parameters=[parameter("size", 2), parameter("menu", {"items": ["a", None, True]})],
    )
    assert launches.kind == layer_pb2.LAYER_KIND_LAUNCH
    read = await world.demo.call("GetLayer", name=layer_name("launches"))
    assert read.layer == launches
    sent = layer_pb2.Layer(
        name=made.name,
        display_name="Checkout",
        etag=made.etag,
        parameters=[parameter("size", 1.5), parameter("colour", "grün")],
    )
    mask = FieldMask(paths=["parameters", "display_name"])
    changed = (await world.demo.call("UpdateLayer", layer=sent, update_mask=mask)).layer
    assert (changed.display_name, changed.etag) == ("Checkout", "v3")
    assert list(changed.parameters) == list(sent.parameters)
    error = await world.demo.refused("UpdateLayer", layer=sent, update_mask=mask)
    assert (error.code, error.reason) == (Code.ABORTED, "STALE_ETAG")
    await start(world, "button", layer=made.name, variants=setting(size=9, colour="rot"))
    reply = await world.demo.call("GetParameters", units=[user(unit) for unit in UNITS])
    assert {key for unit in reply.units for key in unit.values} == {"size", "menu", "colour"}
    sizes = {unit.values["size"].value.number_value for unit in reply.units}
    assert sizes == {1.5, 9}
    error = await world.demo.refused(
        "CreateExperiment",
        parent=PROJECT,
        experiment_id="typo",
        experiment=serving.experiment(layer=made.name, variants=setting(sise=9)),
    )
    assert error.code is Code.INVALID_ARGUMENT
    assert error.violations[0].field == "variants[1].payload.sise"


@pytest.mark.parametrize(
    ("sent", "field"),
    [
        (layer_pb2.Parameter(key="size"), "parameters[0].default_value"),
        (
            layer_pb2.Parameter(key="size", default_value=Value(null_value=NullValue.NULL_VALUE)),
            "parameters[0].default_value",
        ),
        (
            layer_pb2.Parameter(key="size", default_value=Value(number_value=float("nan"))),
            "parameters[0].default_value",
        ),
        (layer_pb2.Parameter(key="Size", default_value=value(1)), "layer.parameters[0].key"),
    ],
)
async def test_a_parameter_that_cannot_be_is_named(
    world: World, sent: layer_pb2.Parameter, field: str
) -> None:
    error = await world.demo.refused(
        "CreateLayer", parent=PROJECT, layer_id="x", layer=layer_pb2.Layer(parameters=[sent])
    )
    assert (error.code, error.violations[0].field) == (Code.INVALID_ARGUMENT, field)


async def test_a_domain_from_its_creation_to_its_release(world: World) -> None:
    await create_layer(world, "base", unit_type="device")
    made = await create_domain(world, "mobile", "base", 3000)
    assert made == domain_pb2.Domain(
        name=f"{PROJECT}/domains/mobile",
        layer=layer_name("base"),
        traffic_slots=3000,
        unit_type="device",
        config_version=2,
        etag="v2",
        create_time=made.create_time,
    )
    assert (await world.demo.call("GetDomain", name=made.name)).domain == made
    assert list((await world.demo.call("ListDomains", parent=PROJECT)).domains) == [made]
    inner = await create_layer(world, "inner", domain=made.name)
    assert (inner.unit_type, inner.domain) == ("device", made.name)
    sent = domain_pb2.Domain(name=made.name, traffic_slots=4000, etag="v2")
    mask = FieldMask(paths=["traffic_slots"])
    grown = (await world.demo.call("UpdateDomain", domain=sent, update_mask=mask)).domain
    assert (grown.traffic_slots, grown.etag) == (4000, "v4")
    base = (await world.demo.call("GetLayer", name=layer_name("base"))).layer
    assert [(r.first_slot, r.end_slot, r.domain, r.experiment) for r in base.ranges] == [
        (0, 3000, made.name, ""),
        (3000, 4000, made.name, ""),
    ]
    assert base.free_slots == 6000
    await start(world, "button", layer=inner.name, unit_type="device")
    error = await world.demo.refused("ReleaseDomain", name=made.name)
    assert (error.code, error.reason) == (Code.FAILED_PRECONDITION, "IN_USE")
    assert "experiment button (running)" in error.message
    await world.demo.verb("Stop")
    released = (await world.demo.call("ReleaseDomain", name=made.name, etag=grown.etag)).domain
    assert released.released
    base = (await world.demo.call("GetLayer", name=layer_name("base"))).layer
    assert base.free_slots == 6000
    world.clock.advance(dt.timedelta(days=8))
    base = (await world.demo.call("GetLayer", name=layer_name("base"))).layer
    assert base.free_slots == 10_000


async def test_units_outside_a_domain_are_told_so(world: World) -> None:
    await create_layer(world, "base")
    await create_domain(world, "mobile", "base", 2500)
    await create_layer(world, "inner", domain=f"{PROJECT}/domains/mobile")
    await start(world, "button", layer=layer_name("inner"))
    found = await reasons(world, "button")
    assert set(found) == {"SPLIT", "NOT_IN_DOMAIN"}
    assert 180 < found.count("SPLIT") < 320


async def test_a_holdout_from_its_creation_to_its_end(world: World) -> None:
    await start(world, "button")
    before = await reasons(world, "button")
    made = await create_holdout(world, "year", slots=2000, description="2026")
    assert made == domain_pb2.Holdout(
        name=f"{PROJECT}/holdouts/year",
        description="2026",
        unit_type="user",
        slots=2000,
        salt=made.salt,
        hash_version=experiment_pb2.HASH_VERSION_FLAGD_V2,
        config_version=3,
        etag="v3",
        create_time=made.create_time,
    )
    assert made.create_time.ToDatetime(dt.UTC) == START
    assert (await world.demo.call("GetHoldout", name=made.name)).holdout == made
    during = await reasons(world, "button")
    assert set(before) == {"SPLIT"}
    assert set(during) == {"SPLIT", "HOLDOUT"}
    checked = await world.demo.call("CheckHoldouts", units=[user(unit) for unit in UNITS])
    assert [list(unit.holdouts) for unit in checked.units] == [
        ["year"] if reason == "HOLDOUT" else [] for reason in during
    ]
    sent = domain_pb2.Holdout(name=made.name, display_name="The year")
    mask = FieldMask(paths=["display_name"])
    renamed = (await world.demo.call("UpdateHoldout", holdout=sent, update_mask=mask)).holdout
    assert (renamed.display_name, renamed.slots) == ("The year", 2000)
    world.clock.advance(dt.timedelta(days=300))
    ended = (await world.demo.call("EndHoldout", name=made.name)).holdout
    assert ended.ended
    assert ended.end_time.ToDatetime(dt.UTC) == START + dt.timedelta(days=300)
    assert await reasons(world, "button") == before
    assert await reasons(world, "button", config_version=3) == during
    assert await reasons(world, "button", config_version=2) == before
    listed = await world.demo.call("ListHoldouts", parent=PROJECT)
    assert list(listed.holdouts) == [ended]


async def test_trying_a_holdout_changes_nothing(world: World) -> None:
    await start(world, "button")
    sent = domain_pb2.Holdout(slots=5000, experiments=[f"{PROJECT}/experiments/button"])
    tried = await world.demo.call(
        "CreateHoldout", parent=PROJECT, holdout_id="try", holdout=sent, validate_only=True
    )
    assert list(tried.holdout.experiments) == list(sent.experiments)
    error = await world.demo.refused("GetHoldout", name=tried.holdout.name)
    assert error.code is Code.NOT_FOUND
    assert set(await reasons(world, "button")) == {"SPLIT"}


async def test_what_is_declared_is_listed_changed_and_deleted(world: World) -> None:
    made = await world.demo.call(
        "CreateUnitType",
        parent=PROJECT,
        unit_type_id="user",
        unit_type=schema_pb2.UnitType(display_name="Customer"),
    )
    assert made.unit_type.name == f"{PROJECT}/unitTypes/user"
    attribute = await world.demo.call(
        "CreateAttribute",
        parent=PROJECT,
        attribute_id="App.version",
        attribute=schema_pb2.Attribute(type=schema_pb2.ATTRIBUTE_TYPE_VERSION),
    )
    name = attribute.attribute.name
    assert name == f"{PROJECT}/attributes/App.version"
    error = await world.demo.refused(
        "CreateLayer", parent=PROJECT, layer_id="x", layer=layer_pb2.Layer(unit_type="device")
    )
    assert (error.code, error.reason) == (Code.INVALID_ARGUMENT, "INVALID_FIELD")
    sent = schema_pb2.Attribute(name=name, display_name="App", etag=attribute.attribute.etag)
    mask = FieldMask(paths=["display_name"])
    changed = await world.demo.call("UpdateAttribute", attribute=sent, update_mask=mask)
    assert changed.attribute.type == schema_pb2.ATTRIBUTE_TYPE_VERSION
    unit_type = schema_pb2.UnitType(name=made.unit_type.name, description="Who buys")
    mask = FieldMask(paths=["description"])
    renamed = await world.demo.call("UpdateUnitType", unit_type=unit_type, update_mask=mask)
    assert (renamed.unit_type.display_name, renamed.unit_type.description) == (
        "Customer",
        "Who buys",
    )
    listed = await world.demo.call("ListAttributes", parent=PROJECT)
    assert list(listed.attributes) == [changed.attribute]
    listed = await world.demo.call("ListUnitTypes", parent=PROJECT)
    assert list(listed.unit_types) == [renamed.unit_type]
    await world.demo.call("DeleteAttribute", name=name, etag=changed.attribute.etag)
    await world.demo.call("DeleteUnitType", name=made.unit_type.name)
    await create_layer(world, "x", unit_type="device")
    error = await world.demo.refused("DeleteAttribute", name=name)
    assert error.code is Code.NOT_FOUND


async def test_lists_page_by_name(world: World) -> None:
    for key in ("c", "a", "b"):
        await create_holdout(world, key, slots=1)
    first = await world.demo.call("ListHoldouts", parent=PROJECT, page_size=2)
    assert [found.name[-1] for found in first.holdouts] == ["a", "b"]
    token = first.next_page_token
    rest = await world.demo.call("ListHoldouts", parent=PROJECT, page_size=2, page_token=token)
    assert [found.name[-1] for found in rest.holdouts] == ["c"]
    assert rest.next_page_token == ""
    error = await world.demo.refused("ListDomains", parent=PROJECT, page_size=2, page_token=token)
    assert error.reason == "INVALID_PAGE_TOKEN"


CALLS: dict[str, dict[str, Any]] = {
    "CreateDomain": {
        "domain_id": "x",
        "domain": domain_pb2.Domain(layer=layer_name("base"), traffic_slots=1),
    },
    "CreateHoldout": {"holdout_id": "x", "holdout": domain_pb2.Holdout(slots=1)},
    "CreateUnitType": {"unit_type_id": "x", "unit_type": schema_pb2.UnitType()},
    "CreateAttribute": {
        "attribute_id": "x",
        "attribute": schema_pb2.Attribute(type=schema_pb2.ATTRIBUTE_TYPE_STRING),
    },
}


@pytest.mark.parametrize("method", CALLS)
async def test_a_request_id_makes_a_call_safe_to_repeat(world: World, method: str) -> None:
    await create_layer(world, "base")
    fields = {"parent": PROJECT, "request_id": "once", **CALLS[method]}
    first, second = await asyncio.gather(
        world.demo.call(method, **fields), world.demo.call(method, **fields)
    )
    assert first == second
    error = await world.demo.refused(method, **(fields | {"request_id": ""}))
    assert (error.code, error.reason) == (Code.ALREADY_EXISTS, "RESOURCE_EXISTS")


@pytest.mark.parametrize("method", CALLS)
async def test_each_change_leaves_its_entry_in_the_audit_log(world: World, method: str) -> None:
    await create_layer(world, "base")
    await world.demo.call(method, parent=PROJECT, **CALLS[method])
    await world.demo.call(
        method, parent=PROJECT, validate_only=True, **(CALLS[method] | {_id(method): "y"})
    )
    with world.platform.database.read() as connection:
        log = SqlAuditLog(connection, world.platform.audit_keys).entries("demo")
    entries = [entry.event for entry in log if entry.event.method.endswith(method)]
    assert [event.resource.rsplit("/", 1)[1] for event in entries] == ["x"]


def _id(method: str) -> str:
    return next(field for field in CALLS[method] if field.endswith("_id"))


@pytest.mark.parametrize("method", CALLS)
async def test_another_projects_things_are_not_there(world: World, method: str) -> None:
    await create_layer(world, "base")
    made = await world.demo.call(method, parent=PROJECT, **CALLS[method])
    error = await world.other.refused(method, parent=PROJECT, **CALLS[method])
    assert error.code is Code.NOT_FOUND
    ((_, found),) = made.ListFields()
    noun = method.removeprefix("Create")
    end = {"Domain": "Release", "Holdout": "End"}.get(noun, "Delete")
    assert (await world.other.refused(f"{end}{noun}", name=found.name)).code is Code.NOT_FOUND
    listed = await world.other.call(f"List{noun}s", parent="projects/other")
    assert MessageToDict(listed) == {}


@pytest.mark.parametrize(
    ("method", "fields", "field"),
    [
        ("CreateHoldout", {"holdout": domain_pb2.Holdout()}, "holdout.slots"),
        (
            "CreateDomain",
            {"domain": domain_pb2.Domain(layer=layer_name("base"))},
            "domain.traffic_slots",
        ),
        ("CreateDomain", {"domain": domain_pb2.Domain(traffic_slots=1)}, "name"),
        ("CreateAttribute", {"attribute": schema_pb2.Attribute()}, "attribute.type"),
    ],
)
async def test_what_a_creation_needs_is_said(
    world: World, method: str, fields: dict[str, Any], field: str
) -> None:
    noun = next(iter(fields))
    error = await world.demo.refused(method, parent=PROJECT, **fields, **{f"{noun}_id": "x"})
    assert (error.code, error.violations[0].field) == (Code.INVALID_ARGUMENT, field)


async def test_a_mask_names_what_may_change(world: World) -> None:
    made = await create_holdout(world, "year", slots=10)
    for paths in ([], ["slots"], ["salt"], ["display_name", "layers"]):
        sent = domain_pb2.Holdout(name=made.name, slots=20)
        error = await world.demo.refused(
            "UpdateHoldout", holdout=sent, update_mask=FieldMask(paths=paths)
        )
        assert (error.code, error.violations[0].field) == (Code.INVALID_ARGUMENT, "update_mask")
        assert "display_name, description" in json.dumps(error.message)
