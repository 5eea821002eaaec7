"""Id lists on the disk: they decide while the store is away, and only when they are whole."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest
from touchstone.assignment.v1 import experiment_pb2, ruleset_pb2
from touchstone_assignment.conditions.id_set import digest_of, written
from touchstone_assignment.decision import Reason
from touchstone_assignment.subject import Subject

from services.assignment.adapters.disk_id_lists import DiskIdLists
from services.assignment.adapters.disk_snapshots import DiskRulesets
from services.assignment.application.id_sets import IdSets
from services.assignment.application.snapshots import Snapshots
from services.assignment.serving_ports import KeptRuleset
from shared.errors import Code, DomainError, unavailable
from shared.testing.fakes import FixedClock

CONTENT = written([1, 2, 3])
DIGEST = digest_of(CONTENT)


class Store:
    """IdLists in memory, which can be away."""

    def __init__(self, *contents: bytes) -> None:
        self.contents = {digest_of(content): content for content in contents}
        self.away = False
        self.reads = 0

    def fingerprints(self, project: str, digest: str) -> bytes:
        del project
        found = self.anywhere(digest)
        assert found is not None
        return found

    def has(self, project: str, digest: str) -> bool:
        if self.away:
            raise unavailable("STORAGE_UNAVAILABLE", "away")
        return project == "demo" and digest in self.contents

    def anywhere(self, digest: str) -> bytes | None:
        if self.away:
            raise unavailable("STORAGE_UNAVAILABLE", "away")
        self.reads += 1
        return self.contents.get(digest)


class NoReader:
    """ConfigurationReader of a store that is away."""

    def read(self) -> Any:
        raise unavailable("STORAGE_UNAVAILABLE", "away")


@pytest.mark.parametrize("kept", [True, False])
def test_a_restored_configuration_decides_by_its_lists(tmp_path, kept) -> None:
    store = Store(CONTENT)
    if kept:
        DiskIdLists(store, tmp_path).anywhere(DIGEST)
    store.away = True
    ruleset = ruleset_pb2.Ruleset(format=1, project="demo", config_version=7)
    ruleset.audiences.add(audience="vip", unit_type="user", digest=DIGEST, count=3)
    rule = ruleset.experiments.add(experiment="exp", unit_type="user", salt="s", control="a")
    rule.serving = ruleset_pb2.SERVING_RUNNING
    rule.layer = "lay"
    rule.slots.add(first=0, end=10_000)
    layer = ruleset.layers.add(layer="lay", unit_type="user", salt="l")
    layer.hash_version = experiment_pb2.HASH_VERSION_FLAGD_V2
    rule.hash_version = experiment_pb2.HASH_VERSION_FLAGD_V2
    rule.variants.add(key="a", weight=10_000)
    rule.targeting.audience = "vip"
    now = datetime(2026, 3, 1, tzinfo=UTC)
    snapshots = Snapshots(NoReader(), FixedClock(now), id_sets=IdSets(DiskIdLists(store, tmp_path)))
    if not kept:
        with pytest.raises(DomainError):
            snapshots.restore(ruleset, now)
        return
    snapshots.restore(ruleset, now)
    evaluator = snapshots.of("demo").evaluator
    decision = evaluator.decide("exp", Subject({"user": "stranger"}))
    assert decision.reason is Reason.NOT_TARGETED


@pytest.mark.parametrize("damage", [b"", CONTENT[:-1], CONTENT[:8] + b"x" + CONTENT[9:]])
def test_a_damaged_list_is_read_from_the_store_again_and_never_served(
    tmp_path, caplog, damage
) -> None:
    store = Store(CONTENT)
    lists = DiskIdLists(store, tmp_path)
    assert lists.anywhere(DIGEST) == CONTENT
    (tmp_path / DIGEST).write_bytes(damage)
    store.away = True
    with pytest.raises(DomainError) as refused:
        lists.anywhere(DIGEST)
    assert refused.value.code is Code.UNAVAILABLE
    assert "a kept id list is damaged" in [record.message for record in caplog.records]
    store.away = False
    assert lists.anywhere(DIGEST) == CONTENT
    assert store.reads == 2
    store.away = True
    assert lists.anywhere(DIGEST) == CONTENT
    assert (tmp_path / DIGEST).read_bytes() == CONTENT


def test_what_was_used_longest_ago_makes_room(tmp_path) -> None:
    contents = [written([number]) for number in range(4)]
    lists = DiskIdLists(Store(*contents), tmp_path, max_bytes=16)
    for age, content in enumerate(contents[:3]):
        lists.anywhere(digest_of(content))
        file = tmp_path / digest_of(content)
        if file.exists():
            os.utime(file, (1_000 + age, 1_000 + age))
    lists.anywhere(digest_of(contents[1]))
    lists.anywhere(digest_of(contents[3]))
    kept = {path.name for path in tmp_path.iterdir()}
    assert kept == {digest_of(contents[1]), digest_of(contents[3])}


def test_a_disk_that_takes_nothing_is_logged_and_deciding_goes_on(tmp_path, caplog) -> None:
    (tmp_path / "lists").write_text("no folder")
    lists = DiskIdLists(Store(CONTENT), tmp_path / "lists")
    assert lists.anywhere(DIGEST) == CONTENT
    assert "cannot be kept on the disk" in caplog.text


def test_lists_that_no_kept_ruleset_names_go_after_an_hour(tmp_path) -> None:
    contents = [written([number]) for number in range(4)]
    named, replaced, waiting, newest = map(digest_of, contents)
    ruleset = ruleset_pb2.Ruleset(format=1, project="demo", config_version=7)
    ruleset.audiences.add(audience="vip", unit_type="user", digest=named, count=1)
    now = datetime(2026, 3, 1, tzinfo=UTC)
    DiskRulesets(tmp_path).keep(KeptRuleset("demo", 7, now, ruleset.SerializeToString()))
    folder = tmp_path / "lists"
    lists = DiskIdLists(Store(*contents), folder)
    for digest in (named, replaced, waiting):
        lists.anywhere(digest)
    (folder / "left.draft").write_bytes(b"half")
    for name in (named, replaced, "left.draft"):
        os.utime(folder / name, (1_000, 1_000))
    lists.anywhere(newest)
    assert {path.name for path in folder.iterdir()} == {named, waiting, newest}


def test_threads_that_keep_the_same_list_do_not_disturb_each_other(tmp_path, caplog) -> None:
    content = written(range(50_000))
    start = threading.Barrier(8)

    class Together(Store):
        def anywhere(self, digest: str) -> bytes | None:
            start.wait(30)
            return super().anywhere(digest)

    lists = DiskIdLists(Together(content), tmp_path)
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lists.anywhere, [digest_of(content)] * 8))
    assert found == [content] * 8
    assert [path.name for path in tmp_path.iterdir()] == [digest_of(content)]
    assert caplog.records == []


def test_who_sends_a_list_at_once_shares_it_and_an_outage_ends_nothing(tmp_path) -> None:
    store, folder = Store(CONTENT), tmp_path / "lists"
    lists = DiskIdLists(store, folder)
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: lists.fingerprints("demo", DIGEST), range(8)))
    assert len(set(map(id, found))) == 1
    assert store.reads == 1
    assert found[0][0:] == CONTENT
    ruleset = ruleset_pb2.Ruleset(format=1, project="demo", config_version=7)
    ruleset.audiences.add(audience="vip", unit_type="user", digest=DIGEST, count=3)
    now = datetime(2026, 3, 1, tzinfo=UTC)
    DiskRulesets(tmp_path).keep(KeptRuleset("demo", 7, now, ruleset.SerializeToString()))
    store.away = True
    assert DiskIdLists(store, folder).fingerprints("demo", DIGEST)[0:] == CONTENT
    with pytest.raises(DomainError, match="away"):
        lists.fingerprints("other", DIGEST)
    store.away = False
    with pytest.raises(DomainError, match="id list") as refused:
        lists.fingerprints("other", DIGEST)
    assert refused.value.code is Code.NOT_FOUND
