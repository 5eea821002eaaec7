"""Flags follow what Assign decides by: also back, when the store has another past than the disk."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from flagd.evaluation.v2 import evaluation_pb2 as v2
from flagd.sync.v1 import sync_pb2
from google.protobuf.struct_pb2 import Struct
from touchstone_assignment.decision import Decision
from touchstone_assignment.parameters import ParameterDecision
from touchstone_assignment.subject import Subject

from services.assignment.adapters.snapshot_flags import SnapshotFlags
from services.assignment.adapters.sql import (
    SqlConfiguration,
    SqlConfigurationReader,
    migrate_assignment,
)
from services.assignment.api.flagd.evaluation import EvaluationServicer
from services.assignment.api.flagd.sync import Documents, SyncServicer
from services.assignment.api.ofrep.changes import Changes, StreamLimits
from services.assignment.api.ofrep.evaluate import Evaluations
from services.assignment.application.create_experiment import CreateExperiment, create_experiment
from services.assignment.application.move_experiment import MoveExperiment, move_experiment
from services.assignment.application.snapshots import Snapshot, Snapshots
from services.assignment.domain.experiment import State, Variant
from services.assignment.ports import Configuration
from services.assignment.wire.ruleset import to_ruleset
from shared.errors import unavailable
from shared.security.caller import CALL, Call, Caller, Role
from shared.server.http import HttpRequest
from shared.server.places import StreamPlaces
from shared.state.database import Database
from shared.testing.fakes import CountingIds, FixedClock

HALVES = (Variant("a", 5000), Variant("b", 5000))
USER = {"targetingKey": "u1"}
RUNS, RESTS = "SPLIT", "DISABLED"


class Deciding:
    """The rules alone."""

    async def decide(
        self,
        snapshot: Snapshot,
        experiments: Sequence[str],
        subject: Subject,
        *,
        keep: bool = True,
    ) -> Sequence[Decision]:
        return [snapshot.evaluator.decide(key, subject) for key in experiments]

    async def parameters(
        self, snapshot: Snapshot, keys: Sequence[str], subject: Subject
    ) -> Mapping[str, ParameterDecision]:
        return snapshot.evaluator.parameters(subject, keys)


class World:
    """A store that may be away, whose loads are counted, and every door for flags."""

    def __init__(self, database: Database) -> None:
        migrate_assignment(database)
        self.database = database
        self.store = SqlConfigurationReader(database)
        self.away, self.reads = False, 0
        self.clock = FixedClock()
        self.snapshots = Snapshots(self, self.clock)
        ids = CountingIds()
        with database.begin() as connection:
            create_experiment(
                CreateExperiment("demo", "button", HALVES),
                SqlConfiguration(connection),
                ids,
                self.clock.now(),
            )
        self.move(State.RUNNING)
        self.flags = SnapshotFlags(self.snapshots, Deciding(), look_s=3600)
        self.evaluations = Evaluations(self.flags, lambda: 0.0)
        self.changes = Changes(self.flags, lambda: 0.0, StreamLimits())
        places = StreamPlaces(10, "streams", "", 1.0)
        self.flagd = EvaluationServicer(v2, self.flags, self.clock, places)
        self.sync = SyncServicer(self.flags, Documents(self.flags), places, debounce_s=0)

    def move(self, to: State) -> None:
        with self.database.begin() as connection:
            command = MoveExperiment("demo", "button", to)
            move_experiment(
                command, SqlConfiguration(connection), dt.timedelta(0), self.clock.now()
            )

    @contextmanager
    def _counted(self) -> Iterator[Configuration]:
        self.reads += 1
        if self.away:
            raise unavailable("STATE_UNAVAILABLE", "the store is away")
        with self.store.read() as configuration:
            yield configuration

    def read(self) -> AbstractContextManager[Configuration]:
        return self._counted()

    def restore(self, newer_by: int) -> None:
        """From the disk: the experiment runs, by rules that are this much newer than the store."""
        with self.store.read() as configuration:
            kept = to_ruleset(configuration.load("demo"), "demo")
        self.move(State.STOPPED)
        with self.store.read() as configuration:
            kept.config_version = configuration.load("demo").config_version + newer_by
        self.snapshots.restore(kept, self.clock.now())

    async def ofrep(self, query: str = "", held: str = "") -> tuple[int, str, str]:
        """The status, the reason of the flag and the tag of the answer."""
        request = HttpRequest(
            json.dumps({"context": USER}).encode(),
            "",
            {"flagConfigEtag": query} if query else {},
            {"if-none-match": held},
        )
        reply = await self.evaluations.all(request)
        reason = json.loads(reply.body)["flags"][0]["reason"] if reply.body else ""
        return reply.status, reason, reply.headers["etag"]

    async def flagd_reason(self) -> str:
        request = v2.ResolveStringRequest(flag_key="button", context=GIVEN)
        return str((await self.flagd.ResolveString(request, CONTEXT)).reason)


GIVEN = Struct()
GIVEN.update(USER)
CONTEXT = SimpleNamespace(invocation_metadata=lambda: ())


@pytest.fixture
def world(database: Database) -> Iterator[World]:
    caller = Caller("demo", "key", frozenset({Role.ASSIGN}))
    token = CALL.set(Call(caller, "/x", "request", authorization=""))
    yield World(database)
    CALL.reset(token)


def running(document: str) -> bool:
    return "fractional" in json.dumps(json.loads(document)["flags"]["button"]["targeting"])


async def following(stream: Any) -> Any:
    async with asyncio.timeout(20):
        return await anext(stream)


@pytest.mark.parametrize("newer_by", [0, 2], ids=["the same version", "an older version"])
async def test_every_door_follows_the_store_after_a_start_from_the_disk(
    world: World, newer_by: int
) -> None:
    world.restore(newer_by)
    events = world.changes.follow(HttpRequest(b"", "", {}, {}))
    documents = world.sync.SyncFlags(sync_pb2.SyncFlagsRequest(), CONTEXT)
    stream = world.flagd.EventStream(v2.EventStreamRequest(), CONTEXT)
    assert b"retry" in await following(events)
    assert b"refetchEvaluation" in await following(events)
    assert running((await following(documents)).flag_configuration)
    assert (await following(stream)).type == "provider_ready"
    assert (await following(stream)).type == "configuration_change"
    status, reason, tag = await world.ofrep()
    assert (status, reason, await world.flagd_reason()) == (200, RUNS, RUNS)
    assert world.snapshots.poll() == 1
    assert (await world.ofrep(held=tag))[:2] == (200, RESTS)
    assert await world.flagd_reason() == RESTS
    fetched = await world.sync.FetchAllFlags(sync_pb2.FetchAllFlagsRequest(), CONTEXT)
    assert not running(fetched.flag_configuration)
    assert b"refetchEvaluation" in await following(events)
    assert not running((await following(documents)).flag_configuration)
    told = await following(stream)
    assert (told.type, set(told.data["flags"])) == ("configuration_change", {"button"})


async def test_the_same_rules_from_the_store_are_made_into_flags_once(world: World) -> None:
    world.move(State.STOPPED)
    with world.store.read() as configuration:
        kept = to_ruleset(configuration.load("demo"), "demo")
    world.snapshots.restore(kept, world.clock.now())
    before = await world.flags.rules("demo")
    world.snapshots.poll()
    after = await world.flags.rules("demo")
    assert after.snapshot is world.snapshots.known("demo")
    assert after.snapshot is not before.snapshot
    assert await world.flags.rules("demo") is after


async def test_versions_that_there_are_not_make_one_look_at_the_store(world: World) -> None:
    world.snapshots.poll()
    before = world.reads
    told = [f"demo.{10**17 + number}" for number in range(50)]
    assert {(await world.ofrep(told[0]))[:2]} == {(200, RUNS)}
    assert world.reads == before + 1
    answers = await asyncio.gather(*(world.ofrep(query) for query in told))
    assert {answer[:2] for answer in answers} == {(200, RUNS)}
    assert world.reads == before + 1


async def test_the_last_known_flags_answer_while_the_store_is_away(world: World) -> None:
    world.snapshots.poll()
    world.away = True
    assert (await world.ofrep("demo.999999999999999999"))[:2] == (200, RUNS)


async def test_what_another_process_told_of_is_looked_for(world: World) -> None:
    world.snapshots.poll()
    world.move(State.STOPPED)
    with world.store.read() as configuration:
        version = configuration.load("demo").config_version
    assert (await world.ofrep(f"demo.{version}"))[:2] == (200, RESTS)


async def test_a_change_soon_after_a_look_is_found_by_the_next(world: World) -> None:
    world.snapshots.poll()
    world.flags = SnapshotFlags(world.snapshots, Deciding(), look_s=0.05)
    await world.flags.rules("demo", 10**17)
    world.move(State.STOPPED)
    with world.store.read() as configuration:
        version = configuration.load("demo").config_version
    found = await world.flags.rules("demo", version)
    assert found.flags.config_version == version
