"""google.longrunning.Operations as it is served: tenants, pages, waiting, cancelling."""

from __future__ import annotations

import time

import grpc
import pytest
from google.longrunning import operations_pb2 as pb
from google.longrunning import operations_pb2_grpc
from google.protobuf.wrappers_pb2 import Int64Value, StringValue

from shared.mutations import Mutations
from shared.operations.runner import Begin, Kind, OperationRunner
from shared.operations.servicer import operations_servicer
from shared.operations.store import migrate_operations
from shared.operations.task import Task
from shared.security.caller import Role
from shared.server.platform import open_platform
from shared.server.status import from_rpc_error
from shared.settings import ServiceSettings
from shared.testing.serving import Served, add_key, application, bearer, serving


def slow(task: Task) -> StringValue:
    until = time.monotonic() + float(task.request(StringValue).value)
    while time.monotonic() < until:
        task.progress(Int64Value(value=1))
        task.wait(0.05)
    return StringValue(value="ended")


class Bench:
    def __init__(self, served: Served, runner: OperationRunner) -> None:
        self.served = served
        self.runner = runner
        self.stub = operations_pb2_grpc.OperationsStub(served.channel)

    def begin(self, seconds: float, kind: str = "slow", project: str = "demo") -> str:
        request = StringValue(value=str(seconds))
        with self.served.platform.database.begin() as connection:
            begun = self.runner.begin(connection, Begin(project, kind, request, Int64Value()))
        self.runner.wake()
        return str(begun.name)

    async def call(self, rpc: str, request, metadata=None):
        found = getattr(self.stub, rpc)
        return await found(request, metadata=metadata or self.served.owner)

    async def error(self, rpc: str, request, metadata=None):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await self.call(rpc, request, metadata)
        return from_rpc_error(caught.value)


@pytest.fixture
async def bench(tmp_path, database_url):
    settings = ServiceSettings(data=tmp_path, database_url=database_url)
    platform = open_platform(settings)
    migrate_operations(platform.database)
    mutations = Mutations(platform.database, platform.audit_keys, platform.clock)
    kinds = [Kind("slow", slow, cancellable=True), Kind("stubborn", slow)]
    runner = OperationRunner(platform.database, platform.clock, platform.ids, kinds, sole=True)
    servicers = [operations_servicer(platform, mutations, runner)]
    made = application(tmp_path, servicers, platform, database_url=database_url)
    runner.start()
    async with serving(made) as served:
        yield Bench(served, runner)
        runner.close()


async def test_wait_answers_when_it_ended_or_the_time_is_over(bench):
    name = bench.begin(1.0)
    request = pb.WaitOperationRequest(name=name)
    request.timeout.FromMilliseconds(100)
    assert not (await bench.call("WaitOperation", request)).done
    done = await bench.call("WaitOperation", pb.WaitOperationRequest(name=name))
    answer = StringValue()
    assert done.done
    assert done.response.Unpack(answer)
    assert answer.value == "ended"
    assert await bench.call("GetOperation", pb.GetOperationRequest(name=name)) == done


async def test_another_projects_operation_is_not_found(bench):
    name = bench.begin(0)
    other = bearer(add_key(bench.served.platform, "other", *Role).text)
    for rpc, request in (
        ("GetOperation", pb.GetOperationRequest(name=name)),
        ("WaitOperation", pb.WaitOperationRequest(name=name)),
        ("CancelOperation", pb.CancelOperationRequest(name=name)),
        ("DeleteOperation", pb.DeleteOperationRequest(name=name)),
        ("ListOperations", pb.ListOperationsRequest(name="projects/demo/operations")),
    ):
        assert (await bench.error(rpc, request, other)).code.name == "NOT_FOUND", rpc
    mine = pb.ListOperationsRequest(name="projects/other/operations")
    assert not (await bench.call("ListOperations", mine, other)).operations


async def test_key_without_a_role_that_reads_is_denied(bench):
    name = bench.begin(0)
    ingest = bearer(add_key(bench.served.platform, "demo", Role.INGEST).text)
    viewer = bearer(add_key(bench.served.platform, "demo", Role.VIEWER).text)
    read, cancel = pb.GetOperationRequest(name=name), pb.CancelOperationRequest(name=name)
    assert (await bench.error("GetOperation", read, ingest)).code.name == "PERMISSION_DENIED"
    assert (await bench.call("GetOperation", read, viewer)).name == name
    assert (await bench.error("CancelOperation", cancel, viewer)).code.name == "PERMISSION_DENIED"


async def test_pages_hold_each_operation_once_newest_first(bench):
    names = [bench.begin(0) for _ in range(5)]
    found, token = [], ""
    while True:
        request = pb.ListOperationsRequest(
            name="projects/demo/operations", page_size=2, page_token=token
        )
        page = await bench.call("ListOperations", request)
        found += [one.name for one in page.operations]
        token = page.next_page_token
        if not token:
            break
    assert found == names[::-1]


@pytest.mark.parametrize(
    "fields", [{"page_size": -1}, {"page_token": "forged"}, {"filter": "kind=slow"}]
)
async def test_list_refuses_what_it_does_not_know(bench, fields):
    request = pb.ListOperationsRequest(name="projects/demo/operations", **fields)
    assert (await bench.error("ListOperations", request)).code.name == "INVALID_ARGUMENT"


async def test_list_by_whether_it_is_done(bench):
    running, done = bench.begin(30), bench.begin(0)
    await bench.call("WaitOperation", pb.WaitOperationRequest(name=done))
    for words, names in (("done = true", [done]), ("done=false", [running])):
        request = pb.ListOperationsRequest(name="projects/demo", filter=words)
        page = await bench.call("ListOperations", request)
        assert [one.name for one in page.operations] == names


async def test_cancel_ends_what_can_be_cancelled_and_is_audited(bench):
    stubborn, slow_one = bench.begin(1.0, "stubborn"), bench.begin(60)
    error = await bench.error("CancelOperation", pb.CancelOperationRequest(name=stubborn))
    assert (error.code.name, error.reason) == ("FAILED_PRECONDITION", "WRONG_STATE")
    await bench.call("CancelOperation", pb.CancelOperationRequest(name=slow_one))
    done = await bench.call("WaitOperation", pb.WaitOperationRequest(name=slow_one))
    assert done.error.code == grpc.StatusCode.CANCELLED.value[0]
    from shared.security.audit import SqlAuditLog

    with bench.served.platform.database.read() as connection:
        log = SqlAuditLog(connection, bench.served.platform.audit_keys)
        methods = [entry.event.method for entry in log.entries("demo")]
    assert "/google.longrunning.Operations/CancelOperation" in methods


async def test_delete_forgets_only_what_has_ended(bench):
    running, done = bench.begin(30), bench.begin(0)
    await bench.call("WaitOperation", pb.WaitOperationRequest(name=done))
    error = await bench.error("DeleteOperation", pb.DeleteOperationRequest(name=running))
    assert error.reason == "WRONG_STATE"
    await bench.call("DeleteOperation", pb.DeleteOperationRequest(name=done))
    error = await bench.error("GetOperation", pb.GetOperationRequest(name=done))
    assert error.code.name == "NOT_FOUND"
