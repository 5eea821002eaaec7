"""Deciding inside a product: what holds while the service is there, away, wrong, or back."""

from __future__ import annotations

import json
import os
import stat
import threading
import time
from typing import Any

import pytest
from touchstone.assignment.v1 import experiment_pb2, ruleset_pb2
from touchstone_assignment.bulk import decide_many
from touchstone_assignment.conditions import IdSet
from touchstone_assignment.conditions.id_set import fingerprint, written
from touchstone_assignment.decision import Reason
from touchstone_assignment.local import (
    Change,
    LocalAssignment,
    Service,
    Settings,
    Tls,
    Unanswered,
    kept_rules,
)
from touchstone_assignment.local.kept_rules import path_of
from touchstone_assignment.local.status import Kind
from touchstone_assignment.subject import Subject

from shared.testing.ports import free_port
from tests.client.local_rig import KEY, PROJECT, QUICK, Running, experiment, follows, rules
from tests.client.rig import CLIENT, eventually, finished, python


@pytest.fixture
def running():
    service = Running()
    service.start()
    yield service
    service.stop()


def variants(local, count=200, name="green"):
    return [local.decide(name, {"user": f"u{n}"}).variant for n in range(count)]


def test_the_rules_decide_as_soon_as_they_are_there(running):
    with running.local() as local:
        assert local.wait_ready(20)
        found = variants(local)
        assert {"on", "off"} == set(found)
        answer = local.decide("green", {"user": "u1"}, default="nothing")
        assert (answer.value, answer.reason) == (answer.variant, Reason.SPLIT)
        assert answer.config_version == 3
        eventually(lambda: local.status().connected)
        status = local.status()
        assert (status.ready, status.stale) == (True, False)
        assert status.age_s is not None


def test_many_units_at_once_get_what_each_of_them_gets(running):
    local = running.local()
    before = local.evaluator
    assert before is None
    with local:
        assert local.wait_ready(20)
        ids = [f"u{number}" for number in range(200)]
        evaluator = local.evaluator
        assert evaluator is not None
        found = decide_many(evaluator, "green", ids)
        for row, unit in enumerate(ids):
            assert found[row].variant == local.decide("green", {"user": unit}).variant


def test_a_unit_without_a_variant_gets_the_callers_default_and_the_reason(running):
    running.fake.say(rules(experiment(serving=ruleset_pb2.SERVING_KILLED)))
    with running.local() as local:
        assert local.wait_ready(20)
        answer = local.decide("green", {"user": "u1"}, default="mine")
        assert answer[:3] == (None, "mine", Reason.KILLED)
        assert local.decide("no-such", {"user": "u1"}, default=7)[:3] == (
            None,
            7,
            Reason.UNKNOWN_EXPERIMENT,
        )


def test_a_change_is_followed_and_told(running):
    told: list[Change] = []
    local = running.local()
    local.listen(told.append)
    with local:
        assert local.wait_ready(20)
        changed = experiment(serving=ruleset_pb2.SERVING_NOT_RUNNING, config_version=4)
        running.fake.say(rules(changed, experiment("new"), version=4))
        follows(local, 4)
        assert local.decide("green", {"user": "u1"}).reason is Reason.NOT_RUNNING
        eventually(lambda: len(told) == 2)
    assert [change.kind for change in told] == [Kind.READY, Kind.CHANGED]
    assert told[1].experiments == ("green", "new")


def test_an_experiment_that_did_not_change_is_not_among_those_that_did(running):
    told: list[Change] = []
    running.fake.say(rules(experiment("one"), experiment("two")))
    local = running.local()
    local.listen(told.append)
    with local:
        assert local.wait_ready(20)
        running.fake.say(
            rules(experiment("one"), experiment("two", salt="other", config_version=4), version=4)
        )
        follows(local, 4)
        eventually(lambda: len(told) == 2)
    assert told[1].experiments == ("two",)


def test_a_stream_that_ends_is_opened_again_and_the_same_rules_are_not_sent_again(running):
    with running.local() as local:
        assert local.wait_ready(20)
        running.fake.end_streams()
        eventually(lambda: len(running.fake.watches) == 2)
        eventually(lambda: local.status().connected)
        first, second = running.fake.watches
        assert first == ""
        assert len(second) == 64
        assert local.status().failures == 0


def test_the_service_gone_the_last_rules_go_on_and_are_stale_in_the_end(running):
    told: list[Change] = []
    local = running.local(stale_after_s=0.3)
    local.listen(told.append)
    with local:
        assert local.wait_ready(20)
        before = variants(local)
        running.stop()
        eventually(lambda: local.status().stale)
        eventually(lambda: Kind.STALE in [change.kind for change in told])
        assert variants(local) == before
        eventually(lambda: local.status().failures > 0 and not local.status().connected)
        assert "UNAVAILABLE" in local.status().problem
        running.start()
        eventually(lambda: Kind.FRESH in [change.kind for change in told])
        eventually(lambda: local.status().problem == "")


def test_rules_that_a_service_could_not_confirm_for_long_are_stale_although_it_answers(running):
    running.fake.say(rules(experiment()), confirmed_s=1_000_000_000.0)
    with running.local() as local:
        assert local.wait_ready(20)
        eventually(lambda: local.status().age_s is not None)
        assert local.status().stale
        assert local.status().age_s > 1e6


def test_a_start_without_the_service_and_without_a_file_answers_with_the_default():
    service = Service(f"127.0.0.1:{free_port()}", KEY)
    with LocalAssignment(service, Settings(PROJECT, **QUICK)) as local:
        assert not local.wait_ready(0.2)
        assert not local.ready
        answer = local.decide("green", {"user": "u1"}, default="control")
        assert answer[:3] == (None, "control", Unanswered.NOT_READY)
        found = local.parameters({"user": "u1"}, {"colour": "red"})["colour"]
        assert (found.value, found.reason) == ("red", Unanswered.NOT_READY)
        assert local.held_out({"user": "u1"}) is None
        assert local.member("vips", {"user": "u1"}) is None
        status = local.status()
        assert (status.ready, status.stale, status.age_s) == (False, True, None)
        eventually(lambda: "UNAVAILABLE" in local.status().problem)


def test_a_start_without_the_service_decides_by_the_file_of_the_last_rules(running, tmp_path):
    with running.local(folder=tmp_path) as local:
        assert local.wait_ready(20)
        before = variants(local)
    running.stop()
    path = path_of(tmp_path, PROJECT)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [each.name for each in tmp_path.iterdir()] == [path.name]
    with running.local(folder=tmp_path, stale_after_s=0.2) as local:
        assert local.ready
        assert variants(local) == before
        status = local.status()
        assert status.from_disk
        assert status.config_version == 3
        eventually(lambda: local.status().stale)
        changed = experiment(serving=ruleset_pb2.SERVING_KILLED, config_version=4)
        running.fake.say(rules(changed, version=4))
        running.start()
        follows(local, 4)
        eventually(lambda: not local.status().from_disk)
    assert local.decide("green", {"user": "u1"}).reason is Reason.KILLED


def damaged(content):
    first, _, body = content.partition(b"\n")
    header, _, ruleset = body.partition(b"\n")
    said = json.loads(header)
    said["project"] = "elsewhere"
    return {
        "a byte differs": content[:-1] + bytes((content[-1] ^ 1,)),
        "torn": content[:-10],
        "the header differs": first + b"\n" + json.dumps(said).encode() + b"\n" + ruleset,
        "newer format": content.replace(b"touchstone-rules 1", b"touchstone-rules 2", 1),
        "empty": b"",
        "something else": os.urandom(500),
    }


@pytest.mark.parametrize(
    "how",
    ["a byte differs", "torn", "the header differs", "newer format", "empty", "something else"],
)
def test_a_file_that_is_not_right_is_refused_whole_and_mended_by_the_service(
    running, tmp_path, how, caplog
):
    with running.local(folder=tmp_path) as local:
        assert local.wait_ready(20)
    running.stop()
    path = path_of(tmp_path, PROJECT)
    whole = path.read_bytes()
    path.write_bytes(damaged(whole)[how])
    with running.local(folder=tmp_path) as local:
        assert not local.ready
        assert local.status().refused == 1
        assert local.decide("green", {"user": "u1"}).reason is Unanswered.NOT_READY
        running.start()
        follows(local, 3)
    assert (
        path.read_bytes().partition(b"\n")[2].partition(b"\n")[2]
        == whole.partition(b"\n")[2].partition(b"\n")[2]
    )
    assert f"refused, those before go on: {path}" in caplog.text


def test_the_rules_of_another_project_are_refused_from_the_service(running, tmp_path):
    with running.local(project="bank", folder=tmp_path) as local:
        eventually(lambda: local.status().refused > 1)
        assert not local.ready
        assert "project 'shop'" in local.status().problem
    assert not path_of(tmp_path, "bank").exists()


@pytest.mark.parametrize("wrong", ["newer format", "damaged on the way", "no rule that compiles"])
def test_rules_that_cannot_be_taken_leave_those_before_in_force(running, wrong):
    with running.local() as local:
        assert local.wait_ready(20)
        before = variants(local)
        bad = {
            "newer format": lambda: running.fake.say(rules(experiment(), version=4, format=2)),
            "damaged on the way": lambda: running.fake.say(
                rules(experiment(), version=4), digest="0" * 64
            ),
            "no rule that compiles": lambda: running.fake.say(
                rules(experiment(salt="not a salt: no"), version=4)
            ),
        }
        bad[wrong]()
        eventually(lambda: local.status().refused > 0)
        assert local.status().config_version == 3
        assert variants(local) == before
        running.fake.say(rules(experiment(), version=5))
        follows(local, 5)


KILLED = {"serving": ruleset_pb2.SERVING_KILLED}


def kept_version(folder):
    found = kept_rules.read(path_of(folder, PROJECT), PROJECT)
    assert found is not None
    return found.config_version


def test_a_replica_that_lags_takes_no_rules_back(running, tmp_path):
    fake, now_s = running.fake, time.time()
    fake.say(rules(experiment(**KILLED), version=10), confirmed_s=now_s)
    with running.local(folder=tmp_path) as local:
        follows(local, 10)
        fake.say(rules(experiment(), version=8), confirmed_s=now_s - 60)
        eventually(lambda: local.status().refused > 1)
        assert local.decide("green", {"user": "u1"}).reason is Reason.KILLED
    assert kept_version(tmp_path) == 10
    with running.local(folder=tmp_path) as local:
        eventually(lambda: local.status().refused > 0)
        assert "version 8" in local.status().problem
        assert local.status().from_disk
        assert local.decide("green", {"user": "u1"}).reason is Reason.KILLED
        fake.say(rules(experiment(**KILLED), version=11), confirmed_s=now_s + 1)
        follows(local, 11)


def test_a_restored_database_counts_from_a_lower_version_on(running, tmp_path):
    fake, now_s = running.fake, time.time()
    fake.say(rules(experiment(**KILLED), version=10), confirmed_s=now_s - 60)
    with running.local(folder=tmp_path) as local:
        follows(local, 10)
        fake.say(rules(experiment(), version=8), confirmed_s=now_s)
        follows(local, 8)
        assert local.status().refused == 0
    assert kept_version(tmp_path) == 8


def test_confirmations_are_compared_by_the_services_clock_also_from_the_disk(running, tmp_path):
    """A clock of ours that is behind makes what a replica confirmed before no newer."""
    fake, ahead_s = running.fake, time.time() + 3600
    fake.say(rules(experiment(**KILLED), version=10), confirmed_s=ahead_s)
    with running.local(folder=tmp_path) as local:
        follows(local, 10)
    fake.say(rules(experiment(), version=8), confirmed_s=ahead_s - 60)
    with running.local(folder=tmp_path) as local:
        eventually(lambda: local.status().refused > 0)
        assert local.status().config_version == 10
    assert kept_version(tmp_path) == 10


def test_a_process_that_is_behind_leaves_the_newer_file_of_another_one(running, tmp_path):
    now_s = time.time()
    behind = Running()
    behind.start()
    try:
        behind.fake.say(rules(experiment(), version=8), confirmed_s=now_s - 120)
        running.fake.say(rules(experiment(**KILLED), version=10), confirmed_s=now_s)
        with behind.local(folder=tmp_path) as one:
            follows(one, 8)
            eventually(lambda: kept_version_or_none(tmp_path) == 8)
            with running.local(folder=tmp_path) as other:
                follows(other, 10)
            behind.fake.say(rules(experiment(), version=9), confirmed_s=now_s - 60)
            follows(one, 9)
        assert kept_version(tmp_path) == 10
    finally:
        behind.stop()


def kept_version_or_none(folder):
    return kept_version(folder) if path_of(folder, PROJECT).exists() else None


def test_a_wrong_key_is_told_and_not_shown(running, caplog):
    with running.local(key="tsk_wrong") as local:
        eventually(lambda: "UNAUTHENTICATED" in local.status().problem)
        assert not local.ready
    assert "UNAUTHENTICATED" in caplog.text
    assert "tsk_wrong" not in caplog.text


def test_what_only_the_server_can_decide_is_not_decided_here(running):
    running.fake.say(rules(experiment(server_only=True, sticky=True)))
    with running.local() as local:
        assert local.wait_ready(20)
        answer = local.decide("green", {"user": "u1"}, default="mine")
        assert answer[:3] == (None, "mine", Unanswered.SERVER_ONLY)
        assert "ask_server" in answer.detail
    assert running.fake.asked == []


def test_what_only_the_server_can_decide_is_asked_for_when_it_may(running):
    running.fake.say(rules(experiment(server_only=True, sticky=True)))
    with running.local(ask_server=True, ask_deadline_s=5) as local:
        assert local.wait_ready(20)
        answer = local.decide("green", {"user": "u1"}, {"country": "SE"}, default="mine")
        assert answer[:4] == ("on", "on", Reason.STICKY, 9)
        assert answer.tainted
        assert answer.from_server
        (asked,) = running.fake.asked
        assert asked.units[0].attributes["country"] == "SE"
        running.stop()
        gone = local.decide("green", {"user": "u1"}, default="mine")
        assert gone[:3] == (None, "mine", Unanswered.SERVER_ONLY)
        assert gone.detail


def with_parameter(rule):
    ruleset = rules(rule)
    ruleset.layers[0].parameters.add(key="colour").default_value.string_value = "red"
    return ruleset


def test_a_parameter_that_only_the_server_can_tell_is_not_told_here(running):
    running.fake.say(with_parameter(experiment(server_only=True, sticky=True)))
    with running.local() as local:
        assert local.wait_ready(20)
        found = local.parameters({"user": "u1"}, {"colour": "mine"})["colour"]
        assert (found.value, found.reason) == ("mine", Unanswered.SERVER_ONLY)
    with running.local(ask_server=True, ask_deadline_s=5) as local:
        assert local.wait_ready(20)
        found = local.parameters({"user": "u1"}, {"colour": "mine", "other": 1})["colour"]
        assert found == ("kept", "green", "on", None, 9)
        running.stop()
        found = local.parameters({"user": "u1"}, {"colour": "mine"})["colour"]
        assert (found.value, found.reason) == ("mine", Unanswered.SERVER_ONLY)


def test_a_parameter_that_nothing_sets_has_the_layers_default(running):
    running.fake.say(with_parameter(experiment(serving=ruleset_pb2.SERVING_NOT_RUNNING)))
    with running.local() as local:
        assert local.wait_ready(20)
        found = local.parameters({"user": "u1"}, {"colour": "mine", "none": 5})
        assert found["colour"] == ("red", "", "", None, 3)
        assert found["none"] == (5, "", "", None, 3)
        bad: dict[str, Any] = {"user": ""}
        assert local.parameters(bad, {"colour": "mine"})["colour"][:1] == ("mine",)


def test_a_server_that_takes_too_long_is_not_waited_for(running):
    running.fake.say(rules(experiment(server_only=True)))
    running.fake.pause_s = 2.0
    with running.local(ask_server=True, ask_deadline_s=0.05) as local:
        assert local.wait_ready(20)
        answer = local.decide("green", {"user": "u1"}, default="mine")
        assert answer.reason is Unanswered.SERVER_ONLY
        assert "DEADLINE_EXCEEDED" in answer.detail


def test_a_killed_experiment_is_out_here_too_whatever_else_only_the_server_knows(running):
    killed = experiment(server_only=True, serving=ruleset_pb2.SERVING_KILLED)
    running.fake.say(rules(killed))
    with running.local() as local:
        assert local.wait_ready(20)
        assert local.decide("green", {"user": "u1"}).reason is Reason.KILLED


@pytest.mark.parametrize(
    "ids",
    [
        {"user": ""},
        {"user": 5},
        {"user": "\ud800"},
        {"user": "a\0b"},
        {"user": "é" * 129},
        {"user": "u1", "org": ""},
        {"user": "u1", "Org": "o1"},
        {"user": "u1", "o" * 33: "o1"},
        {"user": "u1", 5: "o1"},
        {"user": "x" * 257},
        None,
    ],
)
def test_what_is_no_id_is_an_answer_and_no_exception(running, ids):
    with running.local() as local:
        assert local.wait_ready(20)
        answer = local.decide("green", ids, default="mine")
        assert answer[:3] == (None, "mine", Unanswered.INVALID)
        assert answer.detail


def test_the_longest_id_that_the_service_takes_is_decided(running):
    with running.local() as local:
        assert local.wait_ready(20)
        for name in ("é" * 128, "a b\u00a0c", "x" * 256):
            assert local.decide("green", {"user": name}).reason is Reason.SPLIT
            # Of a type that no rule names, too.
            ids = {"user": "u1", "some_other": name}
            assert local.decide("green", ids).reason is Reason.SPLIT


def test_windows_of_time_decide_here_too_also_through_what_is_needed(running):
    windows = experiment_pb2.Switchback(window_s=1)
    needing = [ruleset_pb2.PrerequisiteRule(experiment="windows", variants=["on"])]
    running.fake.say(
        rules(experiment("windows", switchback=windows), experiment("on", prerequisites=needing))
    )
    with running.local() as local:
        assert local.wait_ready(20)
        seen: set[str | None] = set()
        end = time.monotonic() + 60
        while len(seen) < 2 and time.monotonic() < end:
            window = local.decide("windows", {"user": "u1"})
            needs = local.decide("on", {"user": "u1"})
            if local.decide("windows", {"user": "u1"}) == window:
                assert (needs.reason is Reason.PREREQUISITE) is (window.variant != "on")
                seen.add(window.variant)
            time.sleep(0.05)
        assert len(seen) == 2


def test_ids_of_every_form_get_what_the_evaluator_says(running):
    names = ["u1", "a b", "50%", "é", "~", "x" * 256, "%" * 256, "\u00a0"]
    with running.local() as local:
        assert local.wait_ready(20)
        for name in names:
            for ids in ({"user": name}, {"org": "o%", "user": name}, {"user": name, "org": "o1"}):
                wanted = local.evaluator.decide("green", Subject(ids))
                assert local.decide("green", ids).variant == wanted.variant


def listed(*ids):
    content = written(fingerprint(each) for each in ids)
    return content, IdSet.from_fingerprints(content).digest


def vips(digest):
    return ruleset_pb2.AudienceRule(audience="vips", unit_type="user", digest=digest, count=1)


def test_id_lists_are_fetched_once_and_kept(running, tmp_path):
    content, digest = listed(*(f"u{n}" for n in range(100)))
    running.fake.lists[digest] = content
    running.fake.say(rules(experiment(), audiences=[vips(digest)]))
    with running.local(folder=tmp_path, id_lists=True) as local:
        eventually(lambda: local.member("vips", {"user": "u7"}) is True)
        assert local.member("vips", {"user": "u100"}) is False
        assert local.member("no-such", {"user": "u1"}) is None
    with running.local(folder=tmp_path, id_lists=True) as local:
        eventually(lambda: local.member("vips", {"user": "u7"}) is True)
    assert running.fake.list_calls == [digest]
    other, other_digest = listed("u100")
    running.fake.lists[other_digest] = other
    (kept,) = (tmp_path / "id-lists").iterdir()
    kept.write_bytes(b"damaged!")
    with running.local(folder=tmp_path, id_lists=True) as local:
        eventually(lambda: local.member("vips", {"user": "u7"}) is True)
        running.fake.say(rules(experiment(), version=4, audiences=[vips(other_digest)]))
        eventually(lambda: local.member("vips", {"user": "u100"}) is True)
        eventually(lambda: [p.stem for p in (tmp_path / "id-lists").iterdir()] == [other_digest])
    assert running.fake.list_calls == [digest, digest, other_digest]


def test_a_list_that_does_not_come_holds_up_no_change(running):
    running.fake.say(rules(experiment(), audiences=[vips("a" * 64)]))
    with running.local(id_lists=True) as local:
        assert local.wait_ready(20)
        assert local.member("vips", {"user": "u1"}) is None
        running.fake.say(rules(experiment(serving=ruleset_pb2.SERVING_KILLED), version=4))
        follows(local, 4)


def test_a_list_that_fails_ends_no_stream_and_holds_up_no_other_list(running, caplog):
    fake = running.fake
    bad, bad_digest = listed("u1")
    good, good_digest = listed("u2")
    fake.lists[good_digest] = good
    fans = ruleset_pb2.AudienceRule(audience="fans", unit_type="user", digest=good_digest, count=1)
    fake.say(rules(experiment(), audiences=[fans, vips(bad_digest)]))
    with running.local(id_lists=True) as local:
        eventually(lambda: local.member("fans", {"user": "u2"}) is True)
        eventually(lambda: fake.list_calls.count(bad_digest) >= 5)
        assert local.member("vips", {"user": "u1"}) is None
        assert len(fake.watches) == 1
        assert local.status().failures == 0
        eventually(lambda: bad_digest in local.status().problem)
        assert caplog.text.count("did not come") == 1
        fake.lists[bad_digest] = bad
        eventually(lambda: local.member("vips", {"user": "u1"}) is True)
        eventually(lambda: local.status().problem == "")
    assert fake.list_calls.count(good_digest) == 1


def test_a_change_waits_for_no_download(running):
    fake = running.fake
    content, digest = listed("u1")
    fake.lists[digest] = content
    fake.lists_may_come.clear()
    fake.say(rules(experiment(), audiences=[vips(digest)]))
    with running.local(id_lists=True) as local:
        eventually(lambda: fake.list_calls == [digest])
        fake.say(rules(experiment(**KILLED), version=4, audiences=[vips(digest)]))
        follows(local, 4)
        assert not fake.lists_may_come.is_set()
        assert local.decide("green", {"user": "u1"}).reason is Reason.KILLED
        assert local.member("vips", {"user": "u1"}) is None
        fake.lists_may_come.set()
        eventually(lambda: local.member("vips", {"user": "u1"}) is True)
        assert local.status().config_version == 4


def own_threads():
    return [each.name for each in threading.enumerate() if each.name.startswith("touchstone-rules")]


def test_no_thread_and_no_connection_before_the_first_question():
    local = LocalAssignment(Service(f"127.0.0.1:{free_port()}", KEY), Settings(PROJECT, **QUICK))
    assert own_threads() == []
    assert local.close()
    assert local.decide("green", {"user": "u1"}).reason is Unanswered.NOT_READY
    assert own_threads() == []


def test_a_key_that_cannot_be_had_is_a_problem_and_no_exception(running):
    keys = iter([KEY])

    def key():
        return next(keys)

    running.fake.say(rules(experiment(server_only=True)))
    settings = Settings(PROJECT, ask_server=True, **QUICK)
    with LocalAssignment(Service(f"127.0.0.1:{running.port}", key), settings) as local:
        assert local.wait_ready(20)
        answer = local.decide("green", {"user": "u1"}, default="mine")
        assert answer[:3] == (None, "mine", Unanswered.SERVER_ONLY)
        assert "the function for the key" in answer.detail


def test_a_certificate_that_is_not_there_is_a_problem_and_no_exception(tmp_path, caplog):
    tls = Tls(tmp_path / "none.pem")
    with LocalAssignment(Service("127.0.0.1:1", KEY, tls), Settings(PROJECT, **QUICK)) as local:
        assert local.decide("green", {"user": "u1"}).reason is Unanswered.NOT_READY
        eventually(lambda: "none.pem" in local.status().problem)
    assert "none.pem" in caplog.text


def test_closed_it_goes_on_deciding_and_its_threads_are_gone(running):
    local = running.local()
    assert local.wait_ready(20)
    assert own_threads()
    found = variants(local)
    assert local.close()
    assert local.close()
    assert variants(local) == found
    assert own_threads() == []


def test_a_listener_that_raises_ends_nothing(running, caplog):
    def listener(change):
        raise RuntimeError("the product's own bug")

    with running.local() as local:
        local.listen(listener)
        assert local.wait_ready(20)
        running.fake.say(rules(experiment(), version=4))
        follows(local, 4)
    assert "the product's own bug" in caplog.text


def test_threads_of_a_product_see_one_version_each_while_the_rules_change(running):
    """Each version has one experiment more: rules of two versions at once would show."""
    sizes = range(1, 30)

    def version(n):
        return rules(*(experiment(f"e{i}") for i in range(n)), version=n)

    running.fake.say(version(1))
    torn: list[int] = []
    stop = threading.Event()
    with running.local() as local:
        assert local.wait_ready(20)

        def ask():
            while not stop.is_set():
                held = local.rules
                assert held is not None
                if len(held.evaluator.experiments) != held.config_version:
                    torn.append(held.config_version)

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        for n in sizes:
            running.fake.say(version(n))
        follows(local, sizes[-1])
        stop.set()
        for thread in threads:
            thread.join()
    assert torn == []


FORKS = """
import os, sys
from touchstone_assignment.local import LocalAssignment, Service, Settings
address, key, folder = sys.argv[1:]
local = LocalAssignment(Service(address, key), Settings("shop", first_retry_s=0.02))
assert local.wait_ready(20)
found = [local.decide("green", {"user": f"u{n}"}).variant for n in range(100)]
children = []
for child in range(3):
    pid = os.fork()
    if pid == 0:
        same = found == [local.decide("green", {"user": f"u{n}"}).variant for n in range(100)]
        import time
        end = time.monotonic() + 30
        while not local.status().connected and time.monotonic() < end:
            time.sleep(0.01)
        followed = local.status().connected
        done = local.close()
        os._exit(0 if same and followed and done else 1 + (not same) + 2 * (not followed))
    children.append(pid)
codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
assert codes == [0, 0, 0], codes
import time
end = time.monotonic() + 30
while not local.status().connected and time.monotonic() < end:
    time.sleep(0.01)
assert local.status().connected
print("done")
"""


@pytest.mark.parametrize("support", ["0", "1"])
def test_a_child_process_decides_at_once_and_follows_by_itself(running, tmp_path, support):
    process = python(
        FORKS, f"127.0.0.1:{running.port}", KEY, tmp_path, GRPC_ENABLE_FORK_SUPPORT=support
    )
    out, _ = finished(process)
    assert out == "done\n"


BOTH = """
import os, sys
from touchstone_assignment.local import LocalAssignment, Service, Settings
from touchstone_events import EventSender, Service as To, Unit
events = EventSender(To(sys.argv[1], sys.argv[2]))
assert events.conversion(Unit("user", "u1"), "purchase")
events.flush(0.3)
local = LocalAssignment(Service(sys.argv[1], sys.argv[2]), Settings("shop"))
assert local.wait_ready(20)
for _ in range(3):
    pid = os.fork()
    if pid == 0:
        fine = events.conversion(Unit("user", "u1"), "purchase")
        fine = fine and local.decide("green", {"user": "u1"}).variant is not None
        os._exit(0 if fine else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
events.close(0.1)
print("done")
"""


@pytest.mark.parametrize("support", ["0", "1"])
def test_a_process_that_sends_events_too_may_fork(running, support):
    address = f"127.0.0.1:{running.port}"
    out, _ = finished(python(BOTH, address, KEY, GRPC_ENABLE_FORK_SUPPORT=support))
    assert out == "done\n"


def test_a_program_ends_by_itself_without_close(running):
    script = """
import sys
from touchstone_assignment.local import LocalAssignment, Service, Settings
local = LocalAssignment(Service(sys.argv[1], sys.argv[2]), Settings("shop"))
assert local.wait_ready(20)
print(local.decide("green", {"user": "u1"}).reason)
"""
    out, _ = finished(python(script, f"127.0.0.1:{running.port}", KEY))
    assert out == "SPLIT\n"


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="project is ''"):
        Settings("")
    with pytest.raises(ValueError, match="stale_after_s is 0"):
        Settings("shop", stale_after_s=0)
    with pytest.raises(ValueError, match="without tls"):
        Service("10.0.0.5:7701", "key")


def test_it_imports_no_service_and_no_generated_stub():
    for path in (CLIENT / "touchstone_assignment" / "local").rglob("*.py"):
        assert "from touchstone." not in path.read_text(), path
