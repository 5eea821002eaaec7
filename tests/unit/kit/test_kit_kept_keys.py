"""Keys on the disk: for a start without the state database, and for no longer than allowed."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import event

from shared.errors import Code, DomainError
from shared.ids import RandomIds
from shared.security.authentication import _PATIENCE_S, Authenticator
from shared.security.caller import Role
from shared.security.kept_keys import MOST, KeptKeys
from shared.security.keys import NewKey, SqlKeyStore, make_key
from shared.state.database import Database
from shared.state.platform import migrate_platform
from shared.testing.fakes import FixedClock

HOUR = dt.timedelta(hours=1)


class World:
    """A database with keys, and authenticators that start one after another."""

    def __init__(self, folder: Path) -> None:
        self.url = f"sqlite:///{folder / 'state.db'}"
        self.path = folder / "keys.json"
        self.clock = FixedClock()
        self.database = Database.open(self.url)
        migrate_platform(self.database)

    def add(self) -> NewKey:
        now = self.clock.now()
        new = make_key(RandomIds(), "demo", "test", frozenset({Role.ASSIGN}), now)
        with self.database.begin() as connection:
            store = SqlKeyStore(connection)
            if not store.has_project("demo"):
                store.add_project("demo", now)
            store.add(new.key)
        return new

    def revoke(self, key: NewKey) -> None:
        with self.database.begin() as connection:
            connection.exec_driver_sql(
                "UPDATE api_keys SET revoke_time = 1 WHERE key_id = ?", (key.key.key_id,)
            )

    @contextmanager
    def authenticator(self) -> Iterator[Authenticator]:
        kept = KeptKeys(self.path)
        found = Authenticator(self.database, self.clock, 5.0, 2 * HOUR, kept)
        yield found
        found.close()


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


async def refused(authenticator: Authenticator, key: NewKey) -> Code:
    with pytest.raises(DomainError) as caught:
        await authenticator.caller(f"Bearer {key.text}")
    return caught.value.code


async def test_a_key_that_was_met_is_good_after_a_restart_without_the_database(
    world: World,
) -> None:
    met, never_met = world.add(), world.add()
    with world.authenticator() as first:
        await first.caller(f"Bearer {met.text}")
    world.database.close()
    world.clock.advance(HOUR)
    with world.authenticator() as second:
        assert (await second.caller(f"Bearer {met.text}")).project == "demo"
        assert await refused(second, never_met) is Code.UNAVAILABLE
        world.clock.advance(HOUR)
        assert await refused(second, met) is Code.UNAVAILABLE


async def test_a_key_that_the_disk_does_not_know_waits_for_a_slow_database(world: World) -> None:
    key = world.add()
    event.listen(
        world.database.engine, "before_cursor_execute", lambda *_: time.sleep(1.2 * _PATIENCE_S)
    )
    with world.authenticator() as authenticator:
        assert (await authenticator.caller(f"Bearer {key.text}")).project == "demo"


async def test_what_was_revoked_is_known_from_the_next_minute_on(world: World) -> None:
    revoked, other = world.add(), world.add()
    with world.authenticator() as first:
        await first.caller(f"Bearer {revoked.text}")
        await first.caller(f"Bearer {other.text}")
        world.revoke(revoked)
        world.clock.advance(dt.timedelta(minutes=1))
        await first.caller(f"Bearer {other.text}")
    world.database.close()
    with world.authenticator() as second:
        assert await refused(second, revoked) is Code.UNAVAILABLE, "it is kept no longer"
        assert (await second.caller(f"Bearer {other.text}")).project == "demo"


async def test_what_was_revoked_is_dropped_from_a_full_file_too(world: World) -> None:
    revoked, expired, met, more = (world.add() for _ in range(4))
    now = world.clock.now()
    fill = [replace(met.key, key_id=f"k{number}") for number in range(MOST - 3)]
    kept = KeptKeys(world.path)
    kept.put([revoked.key, replace(expired.key, expire_time=now + HOUR), met.key, *fill], now)
    assert kept.due(more.key, now) == frozenset(), "there is no room"
    later = now + HOUR
    again = kept.due(more.key, later)
    assert len(again) == MOST
    assert more.key.key_id not in again
    gone = replace(revoked.key, revoke_time=now)
    kept.put([gone, replace(expired.key, expire_time=now + HOUR), met.key, *fill], later)
    for one in (kept, KeptKeys(world.path)):
        assert one.find(revoked.key.key_id) is None
        assert one.find(expired.key.key_id) is None
        assert one.find(met.key.key_id) == (met.key, later)
    assert kept.due(gone, later) == frozenset(), "what is no good is not read again for itself"
    assert more.key.key_id in kept.due(more.key, later)


async def test_keys_are_read_again_in_few_queries(world: World) -> None:
    keys = [world.add() for _ in range(3)]
    fill = [replace(keys[0].key, key_id=f"k{number}") for number in range(1200)]
    KeptKeys(world.path).put([*(key.key for key in keys), *fill], world.clock.now())
    world.clock.advance(HOUR)
    queries: list[str] = []
    event.listen(
        world.database.engine,
        "before_cursor_execute",
        lambda _connection, _cursor, statement, *_: queries.append(statement),
    )
    with world.authenticator() as authenticator:
        await authenticator.caller(f"Bearer {keys[0].text}")
    assert sum("api_keys" in query for query in queries) <= 1 + 3
    kept = KeptKeys(world.path)
    assert [bool(kept.find(key.key.key_id)) for key in keys] == [True] * 3
    assert kept.find("k0") is None, "the database does not know it"


async def test_no_secret_stands_in_the_file_and_nobody_else_reads_it(world: World) -> None:
    key = world.add()
    with world.authenticator() as first:
        await first.caller(f"Bearer {key.text}")
    assert key.text.encode() not in world.path.read_bytes()
    assert key.text.rsplit("_", 1)[-1].encode() not in world.path.read_bytes()
    assert world.path.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("damage", [b"", b"x", None])
async def test_a_damaged_file_is_refused_whole(world: World, damage: bytes | None) -> None:
    key = world.add()
    with world.authenticator() as first:
        await first.caller(f"Bearer {key.text}")
    written = world.path.read_bytes()
    world.path.write_bytes(written.replace(b"demo", b"boss") if damage is None else damage)
    world.database.close()
    with world.authenticator() as second:
        assert await refused(second, key) is Code.UNAVAILABLE
    assert world.path.with_suffix(".refused").exists()
