"""A process that started while the state database was away uses none that it has not checked."""

from pathlib import Path

import pytest
import sqlalchemy as sa
from touchstone.assignment.v1 import experiment_service_pb2 as pb

from services.assignment.adapters.sql import migrate_assignment
from shared.errors import Code, DomainError
from shared.mutations import Mutation, Mutations
from shared.security.audit import ANONYMOUS, NO_PROJECT, AuditEvent, SqlAuditLog
from shared.security.caller import Call, Caller, Role, acting_as
from shared.server.platform import open_platform, open_platform_later, prepare_platform
from shared.server.run import Platform
from shared.settings import Settings
from shared.state.platform import audit_entries

NAME = "projects/demo/experiments/button"


def settings(folder: Path, state: Path) -> Settings:
    return Settings(data=folder, database_url=f"sqlite:///{state}")


def mutate(platform: Platform) -> None:
    caller = Caller("demo", "key", frozenset({Role.ADMIN}))
    with acting_as(Call(caller, "/service/Method", "request", "")):
        Mutations(platform.database, platform.audit_keys, platform.clock).run(
            Mutation(pb.StopExperimentRequest(name=NAME), NAME),
            lambda _: pb.StopExperimentResponse(),
        )


def away(folder: Path, state: Path) -> tuple[Platform, Settings]:
    """A platform that was opened away, of a host that started before on a state of its own."""
    open_platform(Settings(data=folder)).database.close()
    found = settings(folder, state)
    return open_platform_later(found), found


def test_nothing_is_read_or_written_before_the_database_is_checked(tmp_path: Path) -> None:
    state = tmp_path / "shared.db"
    later, found = away(tmp_path / "host", state)
    for use in (later.database.begin, later.database.read):
        with pytest.raises(DomainError) as caught, use():
            pass
        assert (caught.value.code, caught.value.reason) == (
            Code.UNAVAILABLE,
            "STORAGE_UNAVAILABLE",
        )
    assert not state.exists()
    prepare_platform(later, found, [migrate_assignment])
    mutate(later)
    with later.database.read() as connection:
        assert connection.execute(sa.select(audit_entries.c.resource)).scalars().all() == [NAME]


def test_a_host_with_other_audit_keys_writes_nothing(tmp_path: Path) -> None:
    state = tmp_path / "shared.db"
    first = open_platform(settings(tmp_path / "first", state))
    mutate(first)
    later, found = away(tmp_path / "second", state)
    for _ in range(2):
        with pytest.raises(DomainError, match="copy that file from the first host"):
            prepare_platform(later, found, [migrate_assignment])
        with pytest.raises(DomainError) as caught:
            mutate(later)
        assert caught.value.code is Code.UNAVAILABLE
        with pytest.raises(DomainError), later.database.begin() as connection:
            SqlAuditLog(connection, later.audit_keys).append(
                AuditEvent(NO_PROJECT, later.clock.now(), ANONYMOUS, "/service/Method")
            )
    with first.database.read() as connection:
        assert (
            connection.execute(sa.select(sa.func.count()).select_from(audit_entries)).scalar() == 1
        )
