"""Long-running operations: begun in a transaction, run by kind, resumed, ended once."""

from __future__ import annotations

import datetime as dt
import threading
import time

import pytest
from google.longrunning import operations_pb2 as pb
from google.protobuf.wrappers_pb2 import Int64Value, StringValue
from google.rpc import code_pb2

from shared.clock import SystemClock
from shared.errors import invalid, unavailable
from shared.ids import RandomIds
from shared.operations.operation import operation_message
from shared.operations.runner import Begin, Kind, OperationRunner
from shared.operations.store import Lease, SqlOperations, migrate_operations
from shared.operations.task import Task
from shared.state.database import Database
from shared.testing.fakes import FixedClock


@pytest.fixture
def store(database: Database) -> Database:
    migrate_operations(database)
    return database


@pytest.fixture
def runner_of(store):
    """Makes runners that end with the test, however it ends: none may outlive its database."""
    made = []

    def make(database, *kinds, sole=True, clock=None):
        made.append(OperationRunner(database, clock or SystemClock(), RandomIds(), kinds, sole))
        return made[-1]

    yield make
    for runner in made:
        runner.close()


def begin(database, runner, kind, text="x", project="acme"):
    with database.begin() as connection:
        operation = runner.begin(
            connection, Begin(project, kind, StringValue(value=text), Int64Value())
        )
    runner.wake()
    return operation.name.split("/")[-1]


def get(database, operation_id, project="acme"):
    with database.read() as connection:
        return SqlOperations(connection).get(project, operation_id)


def ended(database, operation_id) -> pb.Operation:
    until = time.monotonic() + 15
    while time.monotonic() < until:
        operation = get(database, operation_id)
        if operation.done:
            return operation_message(operation)
        time.sleep(0.02)
    raise AssertionError(f"not done: {get(database, operation_id)}")


def unpacked(box, kind):
    message = kind()
    assert box.Unpack(message)
    return message.value


def test_work_gets_its_request_and_ends_with_its_response(store, runner_of):
    def shout(task: Task) -> StringValue:
        task.progress(Int64Value(value=7))
        return StringValue(value=task.request(StringValue).value.upper())

    runner = runner_of(store, Kind("shout", shout))
    runner.start()
    try:
        done = ended(store, begin(store, runner, "shout", "hello"))
    finally:
        runner.close()
    assert unpacked(done.response, StringValue) == "HELLO"
    assert unpacked(done.metadata, Int64Value) == 7


def test_operation_of_a_rolled_back_call_never_runs(store, runner_of):
    ran = []

    def note(task: Task) -> StringValue:
        ran.append(task)
        return StringValue()

    def undone():
        with store.begin() as connection:
            runner.begin(connection, Begin("acme", "note", StringValue(), Int64Value()))
            raise ZeroDivisionError

    runner = runner_of(store, Kind("note", note))
    runner.start()
    with pytest.raises(ZeroDivisionError):
        undone()
    runner.wake()
    time.sleep(0.3)
    runner.close()
    assert ran == []


def test_unfinished_work_goes_on_after_a_restart_with_what_it_stored(store, runner_of):
    reached = threading.Event()

    def first(task: Task) -> StringValue:
        task.progress(Int64Value(value=3))
        reached.set()
        while True:
            task.wait(0.02)

    runner = runner_of(store, Kind("steps", first))
    runner.start()
    operation_id = begin(store, runner, "steps")
    assert reached.wait(10)
    runner.close()
    assert not get(store, operation_id).done

    def second(task: Task) -> StringValue:
        return StringValue(value=f"from {task.stored(Int64Value).value}")

    runner = runner_of(store, Kind("steps", second))
    runner.start()
    done = ended(store, operation_id)
    runner.close()
    assert unpacked(done.response, StringValue) == "from 3"


def test_the_only_runner_takes_up_at_once_what_a_crash_left(store, runner_of):
    """A killed process releases nothing: its lease still runs."""
    clock = FixedClock(dt.datetime(2026, 5, 1, tzinfo=dt.UTC))
    runner = runner_of(store, Kind("k", lambda task: StringValue(value="ok")), clock=clock)
    operation_id = begin(store, runner, "k")
    with store.begin() as connection:
        lease = Lease("dead", clock.now() + dt.timedelta(days=1))
        assert len(SqlOperations(connection).claim(["k"], clock.now(), lease, 9)) == 1
        assert SqlOperations(connection).claim(["k"], clock.now(), lease, 9) == []
    other = runner_of(store, Kind("k", lambda task: StringValue()), sole=False, clock=clock)
    other.start()
    time.sleep(0.3)
    other.close()
    assert not get(store, operation_id).done
    runner.start()
    assert unpacked(ended(store, operation_id).response, StringValue) == "ok"
    runner.close()


def test_a_passing_failure_is_tried_again_and_a_lasting_one_ends_it(store, runner_of):
    attempts = []

    def work(task: Task) -> StringValue:
        attempts.append(1)
        if task.request(StringValue).value == "wrong":
            raise invalid("text", "wrong", "anything else")
        if len(attempts) < 3:
            raise unavailable("STORAGE_UNAVAILABLE", "not now")
        return StringValue(value="at last")

    runner = runner_of(store, Kind("try", work))
    runner.start()
    assert unpacked(ended(store, begin(store, runner, "try")).response, StringValue) == "at last"
    wrong = ended(store, begin(store, runner, "try", "wrong"))
    runner.close()
    assert wrong.error.code == code_pb2.INVALID_ARGUMENT
    assert not wrong.HasField("response")


def test_work_that_never_succeeds_ends_without_the_words_of_the_failure(store, runner_of):
    def work(task: Task) -> StringValue:
        raise RuntimeError("secret of the implementation")

    runner = runner_of(store, Kind("bad", work, attempts=1))
    runner.start()
    done = ended(store, begin(store, runner, "bad"))
    runner.close()
    assert done.error.code == code_pb2.INTERNAL
    assert "secret" not in done.error.message


def test_work_that_can_be_cancelled_ends_at_its_next_step(store, runner_of):
    started = threading.Event()

    def work(task: Task) -> StringValue:
        while True:
            started.set()
            task.progress(Int64Value(value=1))
            task.wait(0.02)

    runner = runner_of(store, Kind("long", work, cancellable=True))
    runner.start()
    operation_id = begin(store, runner, "long")
    assert started.wait(10)
    with store.begin() as connection:
        operations = SqlOperations(connection)
        operations.request_cancel(operations.get("acme", operation_id), SystemClock().now())
    assert ended(store, operation_id).error.code == code_pb2.CANCELLED
    runner.close()


def test_postponed_work_holds_no_thread_and_comes_back(store, runner_of):
    clock = SystemClock()
    runs = []

    def later(task: Task) -> StringValue:
        runs.append(task.stored(Int64Value).value)
        if not task.stored(Int64Value).value:
            task.progress(Int64Value(value=1))
            task.postpone(clock.now() + dt.timedelta(seconds=1.0))
        return StringValue(value="done")

    quick = Kind("quick", lambda task: StringValue(value="quick"))
    runner = runner_of(store, Kind("later", later), quick)
    runner.start()
    waiting = [begin(store, runner, "later") for _ in range(8)]
    time.sleep(0.3)
    ended(store, begin(store, runner, "quick"))
    assert not any(get(store, one).done for one in waiting)
    for one in waiting:
        ended(store, one)
    runner.close()
    assert sorted(runs) == [0] * 8 + [1] * 8


def test_work_that_was_taken_over_stores_nothing_more(store, runner_of):
    held, go_on, outcome = threading.Event(), threading.Event(), []

    def slow(task: Task) -> StringValue:
        # The lease that was taken away may come back to the same runner, in another thread.
        if held.is_set():
            return StringValue(value="fresh")
        held.set()
        assert go_on.wait(30)
        try:
            task.progress(Int64Value(value=99))
        except BaseException as error:
            outcome.append(type(error).__name__)
            raise
        return StringValue(value="stale")

    runner = runner_of(store, Kind("k", slow))
    runner.start()
    operation_id = begin(store, runner, "k")
    assert held.wait(10)
    fresh = runner_of(store, Kind("k", lambda task: StringValue(value="fresh")))
    fresh.start()
    done = ended(store, operation_id)
    go_on.set()
    runner.close()
    fresh.close()
    assert unpacked(done.response, StringValue) == "fresh"
    assert unpacked(operation_message(get(store, operation_id)).response, StringValue) == "fresh"
    assert outcome == ["Interrupted"]


@pytest.mark.parametrize("sole", [True, False])
@pytest.mark.parametrize(("crashes", "runs"), [(2, 1), (3, 0)])
def test_work_in_which_the_process_ends_again_and_again_ends_and_says_so(
    store, runner_of, sole, crashes, runs
):
    ran: list[None] = []

    def work(_: Task) -> StringValue:
        ran.append(None)
        return StringValue()

    runner = runner_of(store, Kind("work", work, attempts=3), sole=sole)
    operation_id = begin(store, runner, "work")
    now = SystemClock().now()
    for crash in range(crashes):
        # A process that is killed leaves what it took, and its lease runs out.
        with store.begin() as connection:
            lease = Lease(f"dead-{crash}", now - dt.timedelta(minutes=5))
            assert SqlOperations(connection).claim(["work"], now, lease, 9)
    runner.start()
    done = ended(store, operation_id)
    runner.close()
    assert len(ran) == runs
    assert done.HasField("error") is not bool(runs)
    if not runs:
        assert done.error.code == code_pb2.INTERNAL
        assert "ended or failed 3 times" in done.error.message
