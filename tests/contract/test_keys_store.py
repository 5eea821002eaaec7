"""What `SqlKeyStore` promises, over every database that is supported."""

import base64
import datetime as dt
import json
from dataclasses import replace

import pytest
from touchstone.common.v1 import access_service_pb2 as pb

from shared.errors import Code, DomainError
from shared.security.caller import Caller, Role
from shared.security.keys import SqlKeyStore, authenticate, make_key, split_key
from shared.state.paging import read_page
from shared.state.platform import migrate_platform
from shared.testing.fakes import CountingIds, FixedClock

NOW = FixedClock().now()
VIEWER = frozenset({Role.VIEWER})


@pytest.fixture
def keys(database):
    """A store in an open transaction, with the projects demo and other."""
    migrate_platform(database)
    with database.begin() as connection:
        store = SqlKeyStore(connection)
        store.add_project("demo", NOW)
        store.add_project("other", NOW)
        yield store


@pytest.fixture
def ids():
    return CountingIds()


def test_key_is_found_as_it_was_added(keys, ids):
    new = make_key(ids, "demo", "Größe ✓", frozenset(Role), NOW, NOW + dt.timedelta(days=1))
    keys.add(new.key)
    assert keys.find(new.key.key_id) == new.key
    assert keys.get("demo", new.key.key_id) == new.key
    assert keys.find("nobody") is None


def test_only_a_hash_of_the_secret_is_kept(keys, ids):
    new = make_key(ids, "demo", "", VIEWER, NOW)
    keys.add(new.key)
    secret = new.text.rsplit("_", 1)[1]
    assert secret not in repr(keys.find(new.key.key_id))
    assert len(secret) * 5 >= 128


def test_key_of_another_project_is_not_found(keys, ids):
    new = make_key(ids, "demo", "", VIEWER, NOW)
    keys.add(new.key)
    for call in (keys.get, lambda p, k: keys.revoke(p, k, NOW)):
        with pytest.raises(DomainError) as caught:
            call("other", new.key.key_id)
        assert caught.value.code is Code.NOT_FOUND
    assert keys.get("demo", new.key.key_id).revoke_time is None


def test_key_ids_are_case_sensitive(keys, ids):
    new = make_key(ids, "demo", "", VIEWER, NOW)
    keys.add(replace(new.key, key_id="abcdefghij"))
    keys.add(replace(new.key, key_id="ABCDEFGHIJ"))
    assert keys.find("abcdefghij").key_id == "abcdefghij"
    assert keys.find("Abcdefghij") is None


def test_revoking_is_final_and_keeps_the_first_time(keys, ids):
    new = make_key(ids, "demo", "", VIEWER, NOW)
    keys.add(new.key)
    later = NOW + dt.timedelta(hours=1)
    assert keys.revoke("demo", new.key.key_id, NOW).revoke_time == NOW
    assert keys.revoke("demo", new.key.key_id, later).revoke_time == NOW
    assert keys.get("demo", new.key.key_id).refusal(later) == "the key was revoked"


def test_key_expires_at_its_time_and_not_before(ids):
    end = NOW + dt.timedelta(days=1)
    new = make_key(ids, "demo", "", VIEWER, NOW, end)
    parts = split_key(new.text)
    assert parts is not None
    secret_hash = parts[1]
    before = authenticate(new.key, secret_hash, end - dt.timedelta(microseconds=1))
    assert before == Caller("demo", new.key.key_id, VIEWER)
    assert authenticate(new.key, secret_hash, end) == "the key has expired"
    assert authenticate(new.key, b"\0" * 32, NOW) == "the secret does not fit the key"


@pytest.mark.parametrize("text", ["", "ts_", "ts_ABCDEFGHIJ_" + "a" * 32, "ts_a_b", "x" * 5000])
def test_text_that_is_no_key_is_none(text):
    assert split_key(text) is None


def page_of(keys, size=2, token="", project="demo"):
    request = pb.ListKeysRequest(parent=f"projects/{project}", page_size=size, page_token=token)
    found, token = keys.page(project, read_page(request, project))
    return [key.key_id for key in found], token


def test_pages_hold_every_key_once_newest_first(keys, ids):
    made = []
    for number in range(7):
        # Three and three share a time: the order must be total.
        new = make_key(ids, "demo", "", VIEWER, NOW + dt.timedelta(microseconds=number // 3))
        keys.add(new.key)
        made.append(new.key.key_id)
    keys.add(make_key(ids, "other", "", VIEWER, NOW).key)
    seen, token = page_of(keys)
    while token:
        found, token = page_of(keys, token=token)
        seen += found
    assert seen == made[::-1]


def test_page_token_of_another_request_or_project_is_refused(keys, ids):
    for _ in range(3):
        keys.add(make_key(ids, "demo", "", VIEWER, NOW).key)
    _, token = page_of(keys)
    for bad in (token[:-4], "forged", "ÿ", base64.b64encode(b"[1,2]").decode()):
        with pytest.raises(DomainError) as caught:
            page_of(keys, token=bad)
        assert caught.value.reason == "INVALID_PAGE_TOKEN"
    with pytest.raises(DomainError, match="page_token"):
        page_of(keys, token=token, project="other")


@pytest.mark.parametrize(
    "after", ["", "x:y", "1", f"{10**30}:{'a' * 10}", f"-9:{'a' * 10}", "1:a:b", "1:\0"]
)
def test_page_token_with_a_forged_place_is_refused(keys, after):
    request = pb.ListKeysRequest(parent="projects/demo", page_size=2)
    scope = read_page(request, "demo").scope
    token = base64.urlsafe_b64encode(json.dumps([scope, after]).encode()).decode()
    with pytest.raises(DomainError) as caught:
        page_of(keys, token=token)
    assert caught.value.reason == "INVALID_PAGE_TOKEN"


def test_project_ids_are_checked_and_taken_once(keys):
    for bad in ("", "Demo", "1demo", "a" * 64, "a/b", "ä"):
        with pytest.raises(DomainError) as caught:
            keys.add_project(bad, NOW)
        assert caught.value.code is Code.INVALID_ARGUMENT
    with pytest.raises(DomainError) as caught:
        keys.add_project("demo", NOW)
    assert caught.value.code is Code.ALREADY_EXISTS
