"""OFREP's stream of changes."""

from __future__ import annotations

import asyncio
import json

from services.assignment.api.ofrep.changes import StreamLimits
from tests.contract.ofrep_served import NOW_S, open_ofrep, ruleset


def refetch(version):
    data = {
        "type": "refetchEvaluation",
        "etag": f"acme.{version}",
        "lastModified": int(NOW_S),
    }
    return str(version), data


async def test_each_change_is_told(tmp_path):
    async with open_ofrep(tmp_path) as door, door.events() as events:
        assert events.response.headers["content-type"] == "text/event-stream"
        assert events.response.headers["cache-control"] == "no-store"
        assert (await events.block())[0] == "retry: 2000"
        assert await events.event() == refetch(12)
        for version in (13, 17, 11):
            await door.rules.publish(ruleset(version))
            assert await events.event() == refetch(version)


async def test_client_that_comes_back_is_told_only_of_what_it_missed(tmp_path):
    async with open_ofrep(tmp_path) as door:
        async with door.events(last_event_id="12") as events:
            await events.block()
            await door.rules.publish(ruleset(13))
            assert await events.event() == refetch(13)
        async with door.events(last_event_id="12") as events:
            assert await events.event() == refetch(13)
        async with door.events(last_event_id="nonsense") as events:
            assert await events.event() == refetch(13)


async def test_silence_is_broken(tmp_path):
    async with (
        open_ofrep(tmp_path, StreamLimits(heartbeat_s=0.05)) as door,
        door.events() as events,
    ):
        await events.event()
        assert await events.block() == [": still here"]
        assert await events.block() == [": still here"]
        await door.rules.publish(ruleset(13))
        assert await events.event() == refetch(13)


async def test_streams_are_bounded_and_a_place_is_given_back(tmp_path):
    limits = StreamLimits(streams=2)
    async with open_ofrep(tmp_path, limits) as door:
        async with door.events() as events:
            await events.event()
            async with door.events() as refused:
                body = await asyncio.to_thread(refused.response.read)
            assert (refused.response.status, refused.response.headers["retry-after"]) == (429, "10")
            assert (
                "1 streams of changes of project acme are open" in json.loads(body)["errorDetails"]
            )
        for _ in range(500):
            async with door.events() as again:
                if again.response.status == 200:
                    break
            await asyncio.sleep(0.01)
        assert again.response.status == 200


async def test_streams_end_with_the_server(tmp_path):
    async with open_ofrep(tmp_path) as door, door.events() as events:
        await events.event()
        door.served.running.draining.set()
        assert await events.block() == []


async def test_stream_needs_a_key(tmp_path):
    async with open_ofrep(tmp_path) as door, door.events(authorization="Bearer no") as events:
        assert events.response.status == 401
        await asyncio.to_thread(events.response.read)
