"""Backups while the service works, and what is restored from them, over real files."""

import asyncio
import datetime as dt
import json
import os
import shutil
import sqlite3
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.rpc import code_pb2
from touchstone.common.v1 import access_service_pb2, rpc_pb2, unit_pb2
from touchstone.events.v1 import backup_service_pb2 as pb
from touchstone.events.v1 import backup_service_pb2_grpc as pb_grpc
from touchstone.events.v1 import event_pb2, events_service_pb2, events_service_pb2_grpc

from services.events.adapters.backup_parts import copy_sqlite
from services.events.composition import compose
from services.events.settings import Settings
from shared.backup.files import verify
from shared.backup.manifest import (
    FILE_NAME,
    POSTGRESQL,
    BackupFile,
    Manifest,
    encode_manifest,
    read_manifest,
)
from shared.backup.restore import AUDIT_KEY, JOURNAL, REJECTED, STATE, restore
from shared.errors import Code, DomainError
from shared.ids import RandomIds
from shared.lake.snapshot import LakeEventTables
from shared.security.caller import PROJECT_ROLES, Role
from shared.security.erasure_ledger import ErasureLedger, ErasureRecord
from shared.server.run import RunningServer, start_server
from shared.server.status import from_rpc_error
from shared.server.validation import RequestValidator
from shared.testing.ports import free_port
from shared.testing.postgres import postgres_server
from shared.testing.serving import Metadata, add_key, bearer
from tests.contract.test_lake_tables import ids

NOW = dt.datetime.now(dt.UTC)


@dataclass
class Service:
    """The events service over a data folder, with the keys of a tenant and of an operator."""

    running: RunningServer
    data: Path
    channel: grpc.aio.Channel
    owner: Metadata
    operator: Metadata

    @property
    def backups(self) -> Path:
        return self.data / "backups"

    async def log(self, *names: str, value: float = 1.0) -> Any:
        stub = events_service_pb2_grpc.EventsServiceStub(self.channel)
        request = events_service_pb2.LogEventsRequest(events=[event(n, value) for n in names])
        return await stub.LogEvents(request, metadata=self.owner)

    async def begin(self, backup_id: str, **fields: Any) -> operations_pb2.Operation:
        request = pb.CreateBackupRequest(parent="projects/operators", backup_id=backup_id, **fields)
        stub = pb_grpc.BackupServiceStub(self.channel)
        return (await stub.CreateBackup(request, metadata=self.operator)).operation

    async def end(self, operation: operations_pb2.Operation) -> operations_pb2.Operation:
        stub = operations_pb2_grpc.OperationsStub(self.channel)
        request = operations_pb2.WaitOperationRequest(name=operation.name)
        while not operation.done:
            operation = await stub.WaitOperation(request, metadata=self.operator)
        return operation

    async def back_up(self, backup_id: str, **fields: Any) -> Path:
        operation = await self.end(await self.begin(backup_id, **fields))
        assert not operation.HasField("error"), operation.error
        return self.backups / backup_id

    async def listed(self, **fields: Any) -> pb.ListBackupsResponse:
        request = pb.ListBackupsRequest(parent="projects/operators", **fields)
        stub = pb_grpc.BackupServiceStub(self.channel)
        return await stub.ListBackups(request, metadata=self.operator)

    async def delete(self, backup_id: str) -> None:
        request = pb.DeleteBackupRequest(name=f"projects/operators/backups/{backup_id}")
        await pb_grpc.BackupServiceStub(self.channel).DeleteBackup(request, metadata=self.operator)


def event(name: str, value: float = 1.0) -> event_pb2.Event:
    made = event_pb2.Event(
        event_id=name,
        unit=unit_pb2.UnitId(type="user", id=f"u-{name}"),
        conversion=event_pb2.Conversion(event_name="buy", value=value),
    )
    made.event_time.FromDatetime(NOW)
    return made


@asynccontextmanager
async def serving(data: Path, **settings: Any) -> AsyncIterator[Service]:
    address = f"127.0.0.1:{free_port()}"
    chosen = Settings(data=data, events_address=address, flush_interval_s=0.05, **settings)
    running = await start_server(compose(chosen))
    platform = running.application.platform
    owner = bearer(add_key(platform, "acme", *PROJECT_ROLES).text)
    operator = bearer(add_key(platform, "operators", Role.OPERATOR).text)
    try:
        async with grpc.aio.insecure_channel(running.address) as channel:
            yield Service(running, data, channel, owner, operator)
    finally:
        await running.drain()


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    async with serving(tmp_path / "data") as made:
        yield made


def stored(data: Path) -> list[str]:
    return ids(LakeEventTables(data / "lake").snapshot("acme"))


def restored(backup: Path, data: Path) -> Manifest:
    return restore(backup, data, RandomIds()).manifest


async def failing(call: Any) -> DomainError:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call
    return from_rpc_error(raised.value)


async def test_what_was_acknowledged_before_is_there_once_and_the_service_goes_on(
    service: Service, tmp_path: Path
) -> None:
    names = [f"e{number:03d}" for number in range(150)]
    for name in names:
        await service.log(name)
    await service.log("bad", value=float("inf"))
    old = await service.log(*names[:1])
    backup = await service.back_up("first")
    await service.log("after")
    manifest = restored(backup, tmp_path / "new")
    assert NOW < manifest.begin_time < manifest.create_time
    assert stored(tmp_path / "new") == names
    assert manifest.journal_position >= len(names)
    with closing(sqlite3.connect(tmp_path / "new" / REJECTED)) as rejected:
        assert rejected.execute("SELECT event_id FROM rejected").fetchall() == [("bad",)]
    async with serving(tmp_path / "new") as again:
        reply = await again.log(*names[:3], "after", "fresh")
        assert (reply.duplicates, reply.accepted) == (3, 2)
        lake = LakeEventTables(tmp_path / "new" / "lake")
        await lake.wait_until(reply.consistency_token, 20)
        with pytest.raises(DomainError, match="no longer in use"):
            await lake.wait_until(old.consistency_token, 20)
        await again.back_up("second")
        listed = (await again.listed()).backups
        assert [one.name.split("/")[-1] for one in listed] == ["second"], "none is made once more"
        assert listed[0].journal_position > manifest.journal_position
    restored(tmp_path / "new" / "backups" / "second", tmp_path / "third")
    assert stored(tmp_path / "third") == sorted([*names, "after", "fresh"])


async def test_everything_is_for_its_owner_only_and_as_the_manifest_says(service: Service) -> None:
    await service.log("a")
    (service.data / "erasures" / "pending").mkdir(parents=True, exist_ok=True)
    (service.data / "erasures" / "pending" / "e1").write_text("user:plain-id")
    (service.data / "lake" / "_erasures.json").write_text("[]")
    backup = await service.back_up("first")
    verify(backup, read_manifest(backup))
    names = {path.name for path in backup.rglob("*")}
    assert not names & {"pending", "e1", "_erasures.json", "erasures.json", "owner.key"}
    assert {path.stat().st_mode & 0o077 for path in (backup, *backup.rglob("*"))} == {0}
    expected = {STATE, JOURNAL, REJECTED, AUDIT_KEY, "lake/_watermark.json"}
    assert expected <= read_manifest(backup).by_path().keys()


async def test_an_unchanged_file_is_linked_unless_it_was_damaged(service: Service) -> None:
    await service.log("a")
    first = await service.back_up("first")
    (data_file,) = first.glob("lake/conversions/project=*/day=*/*.parquet")
    second = await service.back_up("second")
    same = second / data_file.relative_to(first)
    assert same.samefile(data_file)
    live = service.data / data_file.relative_to(first)
    assert not live.samefile(data_file), "damage to the tables would damage the backup"
    damage_flip(second, str(data_file.relative_to(first)))
    third = await service.back_up("third")
    verify(third, read_manifest(third))


def damage_flip(backup: Path, path: str) -> None:
    content = bytearray((backup / path).read_bytes())
    content[len(content) // 2] ^= 1
    (backup / path).write_bytes(content)


def damage_truncate(backup: Path, path: str) -> None:
    os.truncate(backup / path, (backup / path).stat().st_size - 10)


def damage_remove(backup: Path, path: str) -> None:
    (backup / path).unlink()


def damage_link(backup: Path, path: str) -> None:
    outside = backup.parent / "outside"
    (backup / path).rename(outside)
    (backup / path).symlink_to(outside)


def damage_link_folder(backup: Path, path: str) -> None:
    folder, outside = (backup / path).parent, backup.parent / "outside"
    folder = folder if folder != backup else backup / "lake"
    folder.rename(outside)
    folder.symlink_to(outside)


def damage_add(backup: Path, path: str) -> None:
    (backup / path).with_name("stranger").write_bytes(b"x")


DAMAGES = [
    damage_flip,
    damage_truncate,
    damage_remove,
    damage_link,
    damage_link_folder,
    damage_add,
]


async def test_a_damaged_backup_is_refused_and_nothing_is_written(
    service: Service, tmp_path: Path
) -> None:
    await service.log("a")
    whole = await service.back_up("first")
    data_file = next(whole.glob("lake/conversions/project=*/day=*/*.parquet"))
    for path in (STATE, JOURNAL, AUDIT_KEY, str(data_file.relative_to(whole)), FILE_NAME):
        for number, damage in enumerate(DAMAGES):
            if path == FILE_NAME and damage not in (damage_flip, damage_truncate, damage_remove):
                continue
            folder = tmp_path / f"{number}-{path.replace('/', '_')}"
            backup = folder / "backup"
            shutil.copytree(whole, backup)
            damage(backup, path)
            with pytest.raises(DomainError, match="is not whole") as raised:
                restored(backup, folder / "new")
            assert raised.value.code is Code.FAILED_PRECONDITION
            left = {one.name for one in folder.iterdir()} - {"outside"}
            assert left == {"backup"}, (path, damage)


@pytest.mark.parametrize("path", ["../evil", "/etc/evil", "a/../../evil", "", "a//b", "a\\b", "."])
def test_a_manifest_that_leads_elsewhere_is_refused(tmp_path: Path, path: str) -> None:
    manifest = Manifest("x", NOW, NOW, "1", "j", 1, "sqlite", "", (BackupFile(path, 0, "0" * 64),))
    (tmp_path / "backup").mkdir()
    (tmp_path / "backup" / FILE_NAME).write_bytes(encode_manifest(manifest))
    with pytest.raises(DomainError, match="not as it was written"):
        restored(tmp_path / "backup", tmp_path / "new")


def test_a_manifest_of_a_newer_program_is_refused(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text(json.dumps({"format_version": 2}))
    with pytest.raises(DomainError, match="use the newer version") as raised:
        read_manifest(tmp_path)
    assert raised.value.reason == "NEWER_VERSION"


async def test_only_an_empty_folder_is_restored_into(service: Service, tmp_path: Path) -> None:
    await service.log("a")
    backup = await service.back_up("first")
    full, file, link = (tmp_path / name for name in ("full", "file", "link"))
    full.mkdir()
    file.write_text("precious")
    (full / "precious").write_text("precious")
    link.symlink_to(tmp_path / "empty")
    (tmp_path / "empty").mkdir()
    for target in (full, file, link, service.data):
        with pytest.raises(DomainError, match="name another one with --data"):
            restored(backup, target)
    assert (full / "precious").read_text() == file.read_text() == "precious"
    restored(backup, tmp_path / "empty")
    assert stored(tmp_path / "empty") == ["a"]


async def test_nobody_but_an_operator_may(service: Service) -> None:
    backup_stub = pb_grpc.BackupServiceStub(service.channel)
    create = pb.CreateBackupRequest(parent="projects/acme")
    error = await failing(backup_stub.CreateBackup(create, metadata=service.owner))
    assert (error.code, error.reason) == (Code.PERMISSION_DENIED, "MISSING_ROLE")
    error = await failing(
        backup_stub.DeleteBackup(
            pb.DeleteBackupRequest(name="projects/acme/backups/x"), metadata=service.owner
        )
    )
    assert error.code is Code.PERMISSION_DENIED
    error = await failing(
        events_service_pb2_grpc.EventsServiceStub(service.channel).LogEvents(
            events_service_pb2.LogEventsRequest(events=[event("a")]), metadata=service.operator
        )
    )
    assert error.code is Code.PERMISSION_DENIED


def test_no_admin_can_grant_the_role() -> None:
    request = access_service_pb2.CreateKeyRequest(
        parent="projects/acme", roles=[rpc_pb2.ROLE_ADMIN, rpc_pb2.ROLE_OPERATOR]
    )
    with pytest.raises(DomainError, match="roles") as raised:
        RequestValidator().check(request, "")
    assert raised.value.code is Code.INVALID_ARGUMENT
    assert Role.OPERATOR not in PROJECT_ROLES


@pytest.mark.parametrize("backup_id", ["../evil", ".hidden", "UPPER", "-x", "a/b", "x" * 64, "a\0"])
async def test_an_id_that_is_no_name_of_a_folder_is_invalid(
    service: Service, backup_id: str
) -> None:
    error = await failing(service.begin(backup_id))
    assert error.code is Code.INVALID_ARGUMENT
    error = await failing(service.delete(backup_id))
    assert error.code is Code.INVALID_ARGUMENT
    assert not service.backups.exists()


async def test_backups_are_listed_kept_and_deleted(service: Service) -> None:
    await service.log("a")
    for number in range(3):
        await service.back_up(f"b{number}")
    pages: list[list[str]] = []
    token = ""
    while not pages or token:
        reply = await service.listed(page_size=2, page_token=token)
        pages.append([one.name.split("/")[-1] for one in reply.backups])
        token = reply.next_page_token
    assert pages == [["b2", "b1"], ["b0"]]
    assert (await failing(service.begin("b1"))).code is Code.ALREADY_EXISTS
    await service.delete("b1")
    assert (await failing(service.delete("b1"))).code is Code.NOT_FOUND
    await service.back_up("b3", keep=2)
    assert sorted(path.name for path in service.backups.iterdir()) == ["b2", "b3"]
    verify(service.backups / "b3", read_manifest(service.backups / "b3"))
    other = pb.ListBackupsRequest(parent="projects/acme")
    stub = pb_grpc.BackupServiceStub(service.channel)
    error = await failing(stub.ListBackups(other, metadata=service.operator))
    assert error.code is Code.NOT_FOUND


async def test_a_link_in_the_folder_of_backups_is_no_backup(
    service: Service, tmp_path: Path
) -> None:
    await service.log("a")
    backup = await service.back_up("real")
    shutil.copytree(backup, tmp_path / "elsewhere")
    (service.backups / "link").symlink_to(tmp_path / "elsewhere")
    assert len((await service.listed()).backups) == 1
    assert (await failing(service.delete("link"))).code is Code.NOT_FOUND
    assert (tmp_path / "elsewhere" / FILE_NAME).exists()
    operation = await service.end(await service.begin("link"))
    assert operation.error.message


async def test_what_an_attempt_left_is_no_backup_and_is_replaced(service: Service) -> None:
    await service.log("a")
    (service.backups / ".first.partial").mkdir(parents=True)
    (service.backups / ".first.partial" / "state.db").write_text("half")
    assert not (await service.listed()).backups
    backup = await service.back_up("first")
    verify(backup, read_manifest(backup))
    assert [path.name for path in service.backups.iterdir()] == ["first"]


@pytest.mark.parametrize("damage", [damage_truncate, damage_remove])
async def test_tables_that_are_damaged_are_not_backed_up(
    service: Service, damage: Callable[[Path, str], None]
) -> None:
    reply = await service.log("a")
    await LakeEventTables(service.data / "lake").wait_until(reply.consistency_token, 20)
    (data_file,) = service.data.glob("lake/conversions/project=*/day=*/*.parquet")
    damage(service.data, str(data_file.relative_to(service.data)))
    operation = await service.begin("first")
    if damage is damage_truncate:
        assert "is damaged and not backed up" in (await service.end(operation)).error.message
    else:  # it may have been erased, so the work is tried again
        await asyncio.sleep(1)
        assert not (await service.listed()).backups
    assert not (service.backups / "first").exists()


def test_a_database_that_is_damaged_is_not_backed_up(tmp_path: Path) -> None:
    live = tmp_path / "state.db"
    with sqlite3.connect(live) as connection:
        connection.execute("CREATE TABLE t (x TEXT)")
        connection.executemany("INSERT INTO t VALUES (?)", [("x" * 500,) for _ in range(500)])
    connection.close()
    content = bytearray(live.read_bytes())
    content[8192:8300] = bytes(108)
    live.write_bytes(content)
    with pytest.raises(DomainError, match="is damaged"):
        copy_sqlite(live, tmp_path / "copy.db")


@pytest.fixture(params=["size=64k", "size=64m,nr_inodes=12"])
def small_disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A disk that has no room for a backup: too few bytes, or room for few files only."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", request.param, "tmpfs", str(folder)]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("needs root to mount a small disk")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


async def test_a_disk_that_is_full_leaves_no_backup(tmp_path: Path, small_disk: Path) -> None:
    async with serving(tmp_path / "data", backups=small_disk / "backups") as service:
        await service.log("a")
        operation = await service.end(await service.begin("first"))
        assert operation.error.code == code_pb2.FAILED_PRECONDITION
        assert "TOUCHSTONE_BACKUPS" in operation.error.message
        assert list((small_disk / "backups").iterdir()) == []
        assert (await service.log("b")).accepted == 1


async def test_what_was_erased_after_the_backup_stays_known_as_erased(
    service: Service, tmp_path: Path
) -> None:
    await service.log("a")
    backup = await service.back_up("first")
    keys = service.running.application.platform.audit_keys
    shutil.copytree(backup / "erasures", tmp_path / "newest")
    newest = ErasureLedger(tmp_path / "newest", keys)
    newest.add_tombstone(ErasureRecord("acme", "e1", "ab" * 16, 7), NOW)
    newest.close()
    done = restore(backup, tmp_path / "new", RandomIds(), tmp_path / "newest")
    assert done.later_erasures == 1
    again = ErasureLedger(tmp_path / "new" / "erasures", keys)
    assert [record.erasure_id for record in again.records("acme")] == ["e1"]
    again.close()
    with pytest.raises(DomainError, match="a folder with a ledger"):
        restore(backup, tmp_path / "other", RandomIds(), tmp_path)
    assert not (tmp_path / "other").exists()


async def test_the_state_in_postgresql_is_left_to_its_own_tools(tmp_path: Path) -> None:
    with postgres_server() as server:
        async with serving(tmp_path / "data", database_url=server.url()) as service:
            await service.log("a")
            backup = await service.back_up("first")
            (listed,) = (await service.listed()).backups
            assert not listed.has_state
    manifest = restored(backup, tmp_path / "new")
    assert manifest.state == POSTGRESQL
    assert not (tmp_path / "new" / STATE).exists()
    assert stored(tmp_path / "new") == ["a"]
