"""Who gets in, who does not, and what the audit log remembers of it."""

import asyncio
import datetime as dt
from dataclasses import replace

import grpc
import pytest
from touchstone.assignment.v1 import assignment_service_pb2_grpc as assignment_rpc
from touchstone.common.v1 import access_service_pb2 as pb
from touchstone.common.v1 import access_service_pb2_grpc as rpc

from shared.errors import Code, DomainError
from shared.security.audit import NO_PROJECT, Outcome, SqlAuditLog
from shared.security.caller import Call, Caller, Role
from shared.security.keys import SqlKeyStore
from shared.server.checks import Authorise
from shared.server.denials import DenialRecorder
from shared.server.platform import open_platform
from shared.server.rpc import Rpc
from shared.server.status import from_rpc_error
from shared.settings import ServiceSettings
from shared.testing.fakes import CountingIds, FixedClock
from shared.testing.serving import add_key, bearer


async def outcome(served, metadata):
    """None when the call succeeds, else its error."""
    try:
        await rpc.AccessServiceStub(served.channel).GetCaller(
            pb.GetCallerRequest(), metadata=metadata
        )
    except grpc.aio.AioRpcError as error:
        return from_rpc_error(error)
    return None


def entries(served, project):
    with served.platform.database.read() as connection:
        return SqlAuditLog(connection, served.platform.audit_keys).entries(project)


@pytest.fixture
def clock():
    return FixedClock()


@pytest.fixture
def platform(tmp_path, clock):
    found = replace(open_platform(ServiceSettings(data=tmp_path / "data")), clock=clock)
    yield found
    found.database.close()


async def test_whatever_is_no_good_key_is_answered_alike(serve, handlers):
    async with serve() as served:
        key = served.owner[0][1].removeprefix("Bearer ")
        wrong_secret = key[:-1] + ("a" if key[-1] != "a" else "b")
        unknown = "ts_" + "0" * 10 + "_" + "0" * 32
        bad = [
            (),
            (("authorization", ""),),
            (("authorization", key),),
            (("authorization", f"Basic {key}"),),
            (("x-api-key", key),),
            bearer(""),
            bearer(key.upper()),
            bearer(key[:-1]),
            bearer(wrong_secret),
            bearer(unknown),
            bearer("' OR 1=1 --"),
        ]
        errors = [await outcome(served, metadata) for metadata in bad]
    assert {error.code for error in errors} == {Code.UNAUTHENTICATED}
    assert {error.reason for error in errors} == {"INVALID_CREDENTIAL"}
    assert len({error.message for error in errors}) == 1
    assert handlers.seen == []


async def test_expired_and_revoked_keys_are_refused_and_audited(serve, platform, clock):
    async with serve(platform, credential_cache_s=0) as served:
        end = clock.now() + dt.timedelta(hours=1)
        expiring = add_key(platform, "demo", Role.VIEWER, expire_time=end)
        revoked = add_key(platform, "demo", Role.VIEWER)
        for key in (expiring, revoked):
            assert await outcome(served, bearer(key.text)) is None
        clock.advance(dt.timedelta(hours=1))
        with platform.database.begin() as connection:
            SqlKeyStore(connection).revoke("demo", revoked.key.key_id, clock.now())
        for key in (expiring, revoked):
            assert (await outcome(served, bearer(key.text))).code is Code.UNAUTHENTICATED
        denied = [e.event for e in entries(served, "demo") if e.event.outcome is Outcome.DENIED]
    assert [(event.actor, event.detail) for event in denied] == [
        (expiring.key.key_id, "the key has expired"),
        (revoked.key.key_id, "the key was revoked"),
    ]


async def test_revoked_key_is_refused_once_the_cache_time_is_over(serve, platform, clock):
    async with serve(platform, credential_cache_s=5) as served:
        key = add_key(platform, "demo", Role.VIEWER)
        assert await outcome(served, bearer(key.text)) is None
        with platform.database.begin() as connection:
            SqlKeyStore(connection).revoke("demo", key.key.key_id, clock.now())
        clock.advance(dt.timedelta(seconds=5))
        assert (await outcome(served, bearer(key.text))).code is Code.UNAUTHENTICATED


async def test_known_keys_go_on_while_the_state_database_is_away(serve, platform, clock):
    async with serve(platform, credential_cache_s=5) as served:
        known, unseen = (add_key(platform, "demo", Role.VIEWER) for _ in range(2))
        assert await outcome(served, bearer(known.text)) is None
        platform.database.close()
        clock.advance(dt.timedelta(minutes=14))
        assert await outcome(served, bearer(known.text)) is None
        assert (await outcome(served, bearer(unseen.text))).code is Code.UNAVAILABLE
        assert (await outcome(served, ())).code is Code.UNAUTHENTICATED
        clock.advance(dt.timedelta(minutes=1))
        assert (await outcome(served, bearer(known.text))).code is Code.UNAVAILABLE


async def test_key_without_the_role_is_denied_and_audited(serve, handlers):
    async with serve() as served:
        ingest = add_key(served.platform, "demo", Role.INGEST)
        stub = assignment_rpc.AssignmentServiceStub(served.channel)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await served.channel.unary_unary("/touchstone.assignment.v1.AssignmentService/Assign")(
                b"not even a request", metadata=bearer(ingest.text)
            )
        error = from_rpc_error(caught.value)
        assert stub is not None
        event = entries(served, "demo")[-1].event
    assert (error.code, error.reason) == (Code.PERMISSION_DENIED, "MISSING_ROLE")
    assert "assign" in error.message
    assert "ingest" in error.message
    assert (event.outcome, event.actor) == (Outcome.DENIED, ingest.key.key_id)
    assert event.method == "/touchstone.assignment.v1.AssignmentService/Assign"
    assert handlers.seen == []


async def test_rpc_without_a_rule_is_denied_even_to_an_owner():
    caller = Caller("demo", "k", frozenset(Role))
    rpc_without_rule = Rpc("/a.B/C", None, b"", None, "r", {}, Call(caller, "/a.B/C", "r", ""))
    with pytest.raises(Exception, match="none is admitted"):
        await Authorise()(rpc_without_rule)


async def test_flood_of_denials_is_one_entry_that_counts_them(serve, platform, clock, tmp_path):
    async with serve(platform) as served:
        for _ in range(20):
            await outcome(served, ())
        clock.advance(dt.timedelta(seconds=11))
        for _ in range(3):
            await outcome(served, ())
        found = [entry.event for entry in entries(served, NO_PROJECT)]
        assert [event.actor for event in found] == ["anonymous", "unknown", "anonymous"]
        assert "19 more like it" in found[1].detail
        await served.running.drain()
    again = open_platform(ServiceSettings(data=tmp_path / "data"))
    with again.database.read() as connection:
        last = SqlAuditLog(connection, again.audit_keys).entries(NO_PROJECT)[-1]
    again.database.close()
    assert "2 more like it" in last.event.detail


async def test_made_up_keys_do_not_choose_how_many_entries_are_written(serve, platform):
    ids = CountingIds()
    async with serve(platform) as served:
        for _ in range(30):
            made_up = f"ts_{ids.new(10)}_{'0' * 32}"
            assert (await outcome(served, bearer(made_up))).code is Code.UNAUTHENTICATED
        found = entries(served, NO_PROJECT)
    assert len(found) == 1


async def test_more_kinds_of_denials_than_are_told_apart_are_one_kind(platform, clock):
    recorder = DenialRecorder(platform.database, platform.audit_keys, clock)
    error = DomainError(Code.PERMISSION_DENIED, "MISSING_ROLE", "no")
    caller = Caller("demo", "k", frozenset())
    for number in range(1010):
        method = f"/a.B/C{number}"
        call = Call(caller, method, "r", "")
        await recorder.record(Rpc(method, None, b"", None, "r", {}, call), error)
    recorder.close()
    with platform.database.read() as connection:
        log = SqlAuditLog(connection, platform.audit_keys)
        assert len(log.entries("demo", limit=2000)) == 1000
        first, rest = (entry.event for entry in log.entries(NO_PROJECT))
    assert (first.actor, rest.actor) == ("many", "many")
    assert "9 more like it" in rest.detail


async def test_callers_of_calls_at_once_are_never_mixed_up(serve, handlers):
    from shared.security.caller import current_caller

    mixed = []
    async with serve() as served:
        keys = {name: add_key(served.platform, name, Role.VIEWER) for name in ("a", "b", "c")}

        async def do():
            before = current_caller()
            await asyncio.sleep(0.01)
            if current_caller() is not before:
                mixed.append(before)

        handlers.do = do
        calls = [outcome(served, bearer(keys[n].text)) for n in "abc" * 10]
        assert set(await asyncio.gather(*calls)) == {None}
    assert mixed == []
