"""Events are kept for as long as is asked: older ones go and are refused, per kind and project."""

from __future__ import annotations

import asyncio
import datetime as dt
from pathlib import Path
from typing import Any

import grpc
import pytest
from touchstone.events.v1 import event_pb2, events_service_pb2
from touchstone.events.v1 import retention_service_pb2 as pb

from shared.clock import SystemClock
from shared.security.caller import Role
from shared.server.status import from_rpc_error
from shared.testing.serving import add_key, bearer
from tests.contract.erasure_bench import Bench, event, events_service

NAME = "projects/acme/retention"


def ago(days: float) -> dt.datetime:
    return SystemClock().now() - dt.timedelta(days=days)


@pytest.fixture
async def bench(tmp_path: Path):
    async with events_service(tmp_path / "data") as made:
        yield made


async def update(bench: Bench, etag: str = "", **days: Any) -> pb.Retention:
    rules = pb.Retention(name=NAME, etag=etag, **days)
    answer = await bench.retention("UpdateRetention", pb.UpdateRetentionRequest(retention=rules))
    assert isinstance(answer.retention, pb.Retention)
    return answer.retention


async def get(bench: Bench) -> pb.Retention:
    answer = await bench.retention("GetRetention", pb.GetRetentionRequest(name=NAME))
    assert isinstance(answer.retention, pb.Retention)
    return answer.retention


async def error(bench: Bench, rpc: str, request, metadata=None):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await bench.retention(rpc, request, metadata)
    return from_rpc_error(caught.value)


async def settled(bench: Bench, expected: list[str]) -> list[str]:
    for _ in range(100):
        if await bench.visible() == expected:
            break
        await asyncio.sleep(0.05)
    return await bench.visible()


async def test_what_is_too_old_goes_and_nothing_else(bench: Bench) -> None:
    touch = event_pb2.Touchpoint(channel="mail")
    rival = bench.metadata("rival")
    await bench.log(event("theirs", "u", ago(40)), metadata=rival)
    answer = await bench.log(
        event("new", "u", ago(0.01)),
        event("edge", "u", ago(30)),
        event("old", "u", ago(40)),
        event("old-touch", "u", ago(40), touchpoint=touch),
    )
    assert len(await bench.visible(answer.consistency_token)) == 4
    await update(bench, conversion_days=30)
    assert await settled(bench, ["edge", "new", "old-touch"]) == ["edge", "new", "old-touch"]
    assert await bench.visible(project="rival") == ["theirs"]


async def test_what_is_too_old_is_refused_with_what_is_allowed(bench: Bench) -> None:
    await update(bench, conversion_days=30, touchpoint_days=90)
    touch = event_pb2.Touchpoint(channel="mail")
    answer = await bench.log(
        event("old", "u", ago(32)),
        event("old-touch", "u", ago(32), touchpoint=touch),
        event("edge", "u", ago(29)),
    )
    assert answer.accepted == 2
    (refused,) = answer.rejected
    assert refused.reason == events_service_pb2.REJECTION_REASON_EVENT_TIME_OUT_OF_RANGE
    assert "keeps of conversions" in refused.message
    assert "UpdateRetention" in refused.message
    await update(bench)
    assert (await bench.log(event("old", "u", ago(32)))).accepted == 1


async def test_old_rejected_events_go_too(bench: Bench) -> None:
    bad = event("bad", "u", conversion=event_pb2.Conversion(event_name="NOT GOOD"))
    await bench.log(bad)
    # Received today: only what was received before the first day that is kept goes.
    await update(bench, rejected_days=1)
    await asyncio.sleep(0.3)
    assert await bench.rejected() == ["bad"]


async def test_rules_hold_after_a_restart(tmp_path: Path) -> None:
    async with events_service(tmp_path / "data") as bench:
        await update(bench, conversion_days=30)
    async with events_service(tmp_path / "data") as bench:
        assert (await get(bench)).conversion_days == 30
        assert (await bench.log(event("old", "u", ago(40)))).accepted == 0


async def test_etag_guards_against_a_concurrent_change(bench: Bench) -> None:
    first = await get(bench)
    assert first == pb.Retention(name=NAME, etag=first.etag)
    second = await update(bench, first.etag, exposure_days=400)
    assert second.HasField("update_time")
    stale = pb.Retention(name=NAME, etag=first.etag, exposure_days=1)
    failure = await error(bench, "UpdateRetention", pb.UpdateRetentionRequest(retention=stale))
    assert (failure.code.name, failure.reason) == ("ABORTED", "STALE_ETAG")
    assert await get(bench) == second


async def test_validate_only_changes_nothing_and_request_id_changes_once(bench: Bench) -> None:
    rules = pb.Retention(name=NAME, exposure_days=7)
    checked = pb.UpdateRetentionRequest(retention=rules, validate_only=True)
    assert (await bench.retention("UpdateRetention", checked)).retention.exposure_days == 7
    assert (await get(bench)).exposure_days == 0
    once = pb.UpdateRetentionRequest(retention=rules, request_id="once")
    first = await bench.retention("UpdateRetention", once)
    assert await bench.retention("UpdateRetention", once) == first


@pytest.mark.parametrize(
    ("rules", "code"),
    [
        (pb.Retention(name=NAME, exposure_days=-1), "INVALID_ARGUMENT"),
        (pb.Retention(name=NAME, exposure_days=36501), "INVALID_ARGUMENT"),
        (pb.Retention(name="projects/acme"), "INVALID_ARGUMENT"),
        (pb.Retention(name="projects/rival/retention"), "NOT_FOUND"),
    ],
)
async def test_what_is_not_allowed_is_refused(bench: Bench, rules: pb.Retention, code: str) -> None:
    failure = await error(bench, "UpdateRetention", pb.UpdateRetentionRequest(retention=rules))
    assert failure.code.name == code


async def test_only_an_admin_changes_the_rules(bench: Bench) -> None:
    platform = bench.running.application.platform
    experimenter = bearer(add_key(platform, "acme", Role.EXPERIMENTER, Role.VIEWER).text)
    request = pb.UpdateRetentionRequest(retention=pb.Retention(name=NAME))
    failure = await error(bench, "UpdateRetention", request, experimenter)
    assert failure.code.name == "PERMISSION_DENIED"
