"""What `Mutations` promises: the change, its audit entry and its answer commit together."""

import threading

import pytest
import sqlalchemy as sa
from touchstone.common.v1 import access_service_pb2 as pb

from shared.errors import Code, DomainError
from shared.mutations import Mutation, Mutations
from shared.security.audit import AuditKeys, SqlAuditLog
from shared.state.platform import migrate_platform, projects, replies
from shared.testing.fakes import FixedClock, calling

CREATE_KEY = "/touchstone.common.v1.AccessService/CreateKey"
KEYS = AuditKeys((b"k" * 32,))
CLOCK = FixedClock()


@pytest.fixture
def state(database):
    migrate_platform(database)
    return database


@pytest.fixture
def mutations(state):
    return Mutations(state, KEYS, CLOCK)


def request(name="for the shop", request_id="once"):
    return pb.CreateKeyRequest(parent="projects/demo", display_name=name, request_id=request_id)


class Work:
    """Adds a project, and counts how often."""

    def __init__(self):
        self.done = 0

    def __call__(self, connection):
        self.done += 1
        values = {"project": f"made-{self.done}", "create_time": CLOCK.now()}
        connection.execute(sa.insert(projects).values(values))
        return pb.CreateKeyResponse(key=pb.Key(name=f"made {self.done}"), secret="the secret")


def run(mutations, body, work, **options):
    with calling(CREATE_KEY, request_id="rpc-7"):
        return mutations.run(
            Mutation(body, "projects/demo/keys/x", body.request_id, **options), work
        )


def state_of(database):
    """The rows made, and the entries of the audit log."""
    with database.read() as connection:
        made = list(connection.execute(sa.select(projects.c.project)).scalars())
        return made, SqlAuditLog(connection, KEYS).entries("demo")


def test_change_and_audit_entry_commit_together(state, mutations):
    run(mutations, request(), Work())
    made, (entry,) = state_of(state)
    assert made == ["made-1"]
    event = entry.event
    assert (event.project, event.actor, event.method) == ("demo", "key-demo", CREATE_KEY)
    assert (event.resource, event.request_id) == ("projects/demo/keys/x", "rpc-7")
    assert len(event.body_digest) == 64


def test_same_request_id_and_body_gives_the_first_answer_without_work(state, mutations):
    work = Work()
    first = run(mutations, request(), work)
    again = run(mutations, request(), work)
    assert work.done == 1
    assert again == first
    assert len(state_of(state)[1]) == 1


def test_same_request_id_with_another_body_is_refused(state, mutations):
    run(mutations, request(), Work())
    with pytest.raises(DomainError) as caught:
        run(mutations, request(name="for the bank"), Work())
    assert caught.value.code is Code.INVALID_ARGUMENT
    assert caught.value.reason == "REQUEST_ID_REUSED"
    assert len(state_of(state)[1]) == 1


def test_request_ids_of_projects_are_apart(mutations):
    work = Work()
    run(mutations, request(), work)
    with calling(CREATE_KEY, project="other"):
        mutations.run(Mutation(request(), "projects/other/keys/x", "once"), work)
    assert work.done == 2


def test_without_a_request_id_every_call_is_a_new_one(state, mutations):
    work = Work()
    for _ in range(2):
        run(mutations, request(request_id=""), work)
    assert work.done == 2
    assert len(state_of(state)[1]) == 2


def test_validate_only_answers_and_leaves_nothing(state, mutations):
    answer = run(mutations, request(), Work(), validate_only=True)
    assert answer.key.name == "made 1"
    assert state_of(state) == ([], [])
    work = Work()
    run(mutations, request(), work)
    assert work.done == 1


def test_failure_leaves_neither_change_nor_audit_entry_nor_answer(state, mutations):
    work = Work()

    def failing(connection):
        work(connection)
        raise DomainError(Code.FAILED_PRECONDITION, "WRONG_STATE", "no")

    with pytest.raises(DomainError, match="no"):
        run(mutations, request(), failing)
    assert state_of(state) == ([], [])
    work.done = 0
    run(mutations, request(), work)
    assert state_of(state)[0] == ["made-1"]


def test_secret_fields_are_given_once_and_never_stored(state, mutations):
    first = run(mutations, request(), Work(), secret_fields=("secret",))
    again = run(mutations, request(), Work(), secret_fields=("secret",))
    assert first.secret == "the secret"
    assert again.secret == ""
    assert again.key == first.key
    with state.read() as connection:
        stored = bytes(connection.execute(sa.select(replies.c.response)).scalar_one())
    assert b"the secret" not in stored


def test_of_calls_at_once_with_one_request_id_one_does_the_work(state, mutations):
    start = threading.Barrier(6)
    answers, failures, lock = [], [], threading.Lock()
    work = Work()

    def call():
        start.wait()
        try:
            answer = run(mutations, request(), work)
            with lock:
                answers.append(answer.key.name)
        except BaseException as error:  # noqa: BLE001  the main thread reports it
            failures.append(error)

    threads = [threading.Thread(target=call) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert answers == ["made 1"] * 6
    assert len(state_of(state)[1]) == 1


def test_the_first_answer_can_be_looked_up_before_long_work(state, mutations):
    mutation = Mutation(request(), "projects/demo/keys/x", "once")
    with calling(CREATE_KEY):
        assert mutations.earlier(mutation) is None
    first = run(mutations, request(), Work())
    with calling(CREATE_KEY):
        assert mutations.earlier(mutation) == first
        other = Mutation(request(name="for the bank"), mutation.resource, "once")
        with pytest.raises(DomainError, match="used before"):
            mutations.earlier(other)
        for new in (
            Mutation(request(), mutation.resource, "another"),
            Mutation(request(), mutation.resource),
            Mutation(request(), mutation.resource, "once", validate_only=True),
        ):
            assert mutations.earlier(new) is None
    with calling(CREATE_KEY, project="other"):
        assert mutations.earlier(mutation) is None
    assert len(state_of(state)[1]) == 1
