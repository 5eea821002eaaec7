"""What an audience may be, and what its lists may hold."""

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from touchstone_assignment.conditions import IdSet
from touchstone_assignment.conditions.id_set import fingerprint, written
from touchstone_assignment.subject import Subject

from services.assignment.application.audience_ids import (
    CommitIds,
    UploadIds,
    commit_ids,
    upload_ids,
)
from services.assignment.application.audiences import (
    CreateAudience,
    UpdateAudience,
    create_audience,
    update_audience,
)
from services.assignment.application.find_resource import Which
from services.assignment.domain.audience import Audience, ListedIds
from services.assignment.domain.limits import LIMITS, Limits
from services.assignment.ports import Upload
from shared.errors import Code, DomainError
from tests.unit.assignment.storing import Stored

UPLOAD = Upload("acme", "vip", "up")
IDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6)


def comparing(*values: object, operator: str = "IN") -> str:
    found = {"attribute": "a", "operator": f"OPERATOR_{operator}", "values": list(values)}
    return json.dumps({"compare": found}, sort_keys=True, separators=(",", ":"))


def made(
    stored: Stored, audience_id: str, members: str | ListedIds, limits: Limits = LIMITS
) -> Audience:
    command = CreateAudience("acme", audience_id, members)
    return stored.change(lambda c: create_audience(command, c, stored.now, limits))


def uploaded(stored: Stored, ids: Any, part: int = 0, limits: Limits = LIMITS) -> int:
    command = UploadIds(UPLOAD, part, written(map(fingerprint, ids)))
    return stored.change(lambda c: upload_ids(command, c, stored.now, limits))


def committed(stored: Stored, parts: int = 1, limits: Limits = LIMITS) -> Audience:
    return stored.change(lambda c: commit_ids(CommitIds(UPLOAD, parts), c, stored.now, limits))


def test_a_condition_is_limited_in_bytes(stored) -> None:
    made(stored, "long", comparing(*["x" * 60] * 1000))
    with pytest.raises(DomainError) as caught:
        made(stored, "longer", comparing(*["x" * 70] * 1000))
    assert caught.value.code is Code.INVALID_ARGUMENT
    assert "at most 65536 as JSON" in caught.value.message


def test_the_number_of_audiences_is_limited(stored) -> None:
    few = replace(LIMITS, max_audiences=1)
    made(stored, "one", comparing("x"), few)
    with pytest.raises(DomainError) as caught:
        made(stored, "two", comparing("x"), few)
    assert (caught.value.code, caught.value.reason) == (Code.RESOURCE_EXHAUSTED, "LIMIT_EXCEEDED")


def test_the_ids_of_a_list_are_limited(stored) -> None:
    made(stored, "vip", ListedIds("user"))
    few = replace(LIMITS, max_listed_ids=3)
    uploaded(stored, "abc")
    assert committed(stored, limits=few).members == ListedIds("user", 3, IdSet.of_ids("abc").digest)
    uploaded(stored, "abcd")
    with pytest.raises(DomainError) as caught:
        committed(stored, limits=few)
    assert caught.value.reason == "LIMIT_EXCEEDED"
    assert committed(stored).id_list == ListedIds("user", 4, IdSet.of_ids("abcd").digest)


def test_the_ids_that_wait_are_limited(stored) -> None:
    made(stored, "vip", ListedIds("user"))
    few = replace(LIMITS, max_waiting_ids=3)
    assert uploaded(stored, "ab", limits=few) == 1
    with pytest.raises(DomainError) as caught:
        uploaded(stored, "cd", part=1, limits=few)
    assert caught.value.reason == "LIMIT_EXCEEDED"
    assert uploaded(stored, "abc", limits=few) == 1


def test_parts_wait_a_day(stored) -> None:
    made(stored, "vip", ListedIds("user"))
    uploaded(stored, "a")
    stored.now += timedelta(seconds=LIMITS.upload_kept_s)
    assert committed(stored).id_list == ListedIds("user", 1, IdSet.of_ids("a").digest)
    uploaded(stored, "b")
    stored.now += timedelta(seconds=LIMITS.upload_kept_s + 1)
    with pytest.raises(DomainError, match="waited longer than a day"):
        committed(stored)


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25, deadline=None
)
@given(st.lists(st.lists(IDS, min_size=1, max_size=8), min_size=1, max_size=4))
def test_parts_together_are_the_set_of_their_ids(stored, parts) -> None:
    if not stored.load().audiences:
        made(stored, "vip", ListedIds("user"))
    for number, ids in enumerate(parts):
        uploaded(stored, ids, part=number)
    found = committed(stored, parts=len(parts)).id_list
    whole = IdSet.of_ids(unit_id for ids in parts for unit_id in ids)
    assert found == ListedIds("user", len(whole), whole.digest)


def test_an_older_version_decides_by_the_older_rule(stored) -> None:
    first = made(stored, "those", comparing("x"))
    stored.running("button", targeting='{"audience":"those"}')
    before = stored.load().config_version
    change = UpdateAudience(Which("acme", "those"), {"condition": comparing("y")})
    second = stored.change(lambda c: update_audience(change, c, stored.now))
    assert second.config_version > before > first.config_version
    subject = Subject({"user": "u"}, {"a": "x"})
    assert stored.evaluator(before).decide("button", subject).variant
    assert not stored.evaluator().decide("button", subject).variant
