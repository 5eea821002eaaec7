"""The promises of the store of identity policies, over every supported database."""

from __future__ import annotations

import datetime as dt
import threading
from dataclasses import replace

import pytest
from touchstone.events.v1 import identity_service_pb2 as pb

from shared.errors import Code, DomainError
from shared.identity.policy import DEFAULT_POLICY, IdentityPolicy, IdType, StoredPolicy
from shared.identity.store import SqlIdentityPolicies, SqlPolicySource, migrate_identity
from shared.mutations import Mutation, Mutations
from shared.security.audit import AuditKeys
from shared.state.database import Database
from shared.state.platform import migrate_platform
from shared.testing.fakes import FixedClock, calling

START = dt.datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=dt.UTC)
OWN = IdentityPolicy((IdType("phone", 3, 7), IdType("customer", 2, 9)), 4, ("Größe ✓", " TEST "))


@pytest.fixture
def store(database: Database) -> Database:
    migrate_platform(database)
    migrate_identity(database)
    return database


def add(database: Database, new: StoredPolicy, project: str = "acme") -> None:
    with database.begin() as connection:
        SqlIdentityPolicies(connection).add(project, new)


def test_a_project_without_a_policy_has_the_default(store: Database) -> None:
    found = SqlPolicySource(store).current("acme")
    assert (found.policy, found.version, found.create_time) == (DEFAULT_POLICY, 0, None)


def test_what_was_added_comes_back_equal_and_only_to_its_project(store: Database) -> None:
    first = StoredPolicy(OWN, 1, START)
    add(store, first)
    assert SqlPolicySource(store).current("acme") == first
    for other in ("ACME", "acme ", "other"):
        assert SqlPolicySource(store).current(other).version == 0


def test_every_version_stays_as_it_was(store: Database) -> None:
    first, second = StoredPolicy(OWN, 1, START), StoredPolicy(DEFAULT_POLICY, 2, START)
    add(store, first)
    add(store, second)
    with store.read() as connection:
        policies = SqlIdentityPolicies(connection)
        found = [policies.at("acme", version) for version in range(4)]
        assert found == [StoredPolicy(), first, second, None]
        assert policies.current("acme") == second


def test_a_version_is_made_once(store: Database) -> None:
    add(store, StoredPolicy(OWN, 1, START))
    with pytest.raises(DomainError) as caught:
        add(store, StoredPolicy(DEFAULT_POLICY, 1, START))
    assert (caught.value.code, caught.value.reason) == (Code.ABORTED, "STALE_ETAG")
    assert SqlPolicySource(store).current("acme").policy == OWN


def test_of_two_writers_one_is_told(store: Database) -> None:
    outcomes: list[str] = []
    barrier = threading.Barrier(2)

    def change(limit: int) -> None:
        barrier.wait()
        try:
            add(store, StoredPolicy(replace(OWN, default_limit=limit), 1, START))
            outcomes.append("done")
        except DomainError as error:
            outcomes.append(error.code.value)

    threads = [threading.Thread(target=change, args=(limit,)) for limit in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["ABORTED", "done"]


def test_a_closed_store_says_so(store: Database) -> None:
    store.close()
    with pytest.raises(DomainError) as caught:
        SqlPolicySource(store).current("acme")
    assert caught.value.code is Code.UNAVAILABLE


def test_a_mutation_adds_once_and_a_trial_adds_nothing(store: Database) -> None:
    mutations = Mutations(store, AuditKeys((b"k" * 32,)), FixedClock(START))
    request = pb.UpdateIdentityPolicyRequest(request_id="once")

    def work(connection) -> pb.UpdateIdentityPolicyResponse:
        policies = SqlIdentityPolicies(connection)
        version = policies.current("demo").version + 1
        policies.add("demo", StoredPolicy(OWN, version, START))
        return pb.UpdateIdentityPolicyResponse()

    with calling("/touchstone.events.v1.IdentityService/UpdateIdentityPolicy"):
        mutations.run(Mutation(request, "x", "once", validate_only=True), work)
        assert SqlPolicySource(store).current("demo").version == 0
        mutations.run(Mutation(request, "x", "once"), work)
        mutations.run(Mutation(request, "x", "once"), work)
    assert SqlPolicySource(store).current("demo").version == 1
