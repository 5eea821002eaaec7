"""The client against the real events service, which dies, hangs and comes back."""

from __future__ import annotations

import os
import random
import signal
import socket
import threading
import time
from typing import Any

import pytest
from touchstone_events import About, EventSender, Service, Settings, Touchpoint, Unit

from shared.testing.ports import free_port
from tests.client.rig import eventually, finished, python, stored

SEED = 20261122
QUICK: dict[str, Any] = {"first_retry_s": 0.02, "longest_retry_s": 0.2, "batch_age_s": 0.02}
SENDS = """
import os, signal, sys, time
from pathlib import Path
from touchstone_events import About, EventSender, Service, Settings, Unit
address, key, spool, first, count, then = sys.argv[1:]
folder = Path(spool) if spool else None
settings = Settings(spool_folder=folder, batch_events=100, first_retry_s=0.02, close_s=10)
events = EventSender(Service(address, key), settings)
for n in range(int(first), int(first) + int(count)):
    about = About(event_id=f"e{n}")
    assert events.conversion(Unit("user", f"u{n}"), "purchase", value=n, about=about)
if then == "spooled":
    while events.stats().spooled < int(count):
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGKILL)
if then == "close":
    events.close(2)
"""


def names(count, first=0):
    return {f"e{n}" for n in range(first, first + count)}


def send(sender, first, count):
    for n in range(first, first + count):
        about = About(event_id=f"e{n}")
        assert sender.conversion(Unit("user", f"u{n}"), "purchase", value=n, about=about)


def once(found):
    return set(found.values()) <= {1}


def accounted(stats):
    known = stats.queued + stats.spooled + stats.sent + stats.duplicates
    return stats.taken + stats.recovered == known + stats.rejected + stats.refused + stats.lost


def killed_while_sending(service, settings, rounds):
    """How many events a product sent while the service was killed again and again, and the stats of
    its closed sender.
    """
    chance = random.Random(SEED)
    service.start()
    sender = EventSender(Service(service.address, service.key), settings)
    stop = threading.Event()
    sent: list[int] = []

    def product():
        while not stop.is_set():
            send(sender, len(sent) * 20, 20)
            sent.append(20)
            stop.wait(0.005)

    thread = threading.Thread(target=product)
    thread.start()
    try:
        for _ in range(rounds):
            time.sleep(chance.uniform(0.2, 0.6))
            service.kill()
            time.sleep(chance.uniform(0.0, 0.2))
            service.start()
    finally:
        stop.set()
        thread.join()
    sender.close(30.0)
    return sum(sent), sender.stats()


@pytest.mark.parametrize("with_spool", [False, True], ids=["memory", "spool"])
def test_nothing_is_lost_or_doubled_when_the_service_is_killed_while_sending(
    service, tmp_path, with_spool
):
    folder = tmp_path / "spool" if with_spool else None
    settings = Settings(batch_events=50, spool_folder=folder, **QUICK)
    count, stats = killed_while_sending(service, settings, rounds=3)
    assert (stats.dropped, stats.lost, stats.refused, stats.rejected) == (0, 0, 0, 0), SEED
    assert stats.failures > 0
    assert accounted(stats), stats
    if stats.spooled:
        with EventSender(Service(service.address, service.key), settings) as heir:
            eventually(lambda: heir.stats().recovered and not heir.stats().spooled)
    assert count > 500
    eventually(lambda: len(stored(service)) >= count)
    assert stored(service).keys() == names(count)
    assert once(stored(service))


def test_a_client_that_does_not_repeat_calls_would_be_found_out(service):
    """The twin of the test above: without retries it must see events lost."""
    settings = Settings(batch_events=50, retry_codes=frozenset(), **QUICK)
    count, stats = killed_while_sending(service, settings, rounds=1)
    assert stats.refused > 0
    assert accounted(stats), stats
    eventually(lambda: len(stored(service)) >= stats.sent)
    assert stored(service).keys() < names(count)


def test_away_at_the_start_everything_waits_on_disk_and_is_delivered_when_it_is_back(
    service, tmp_path
):
    settings = Settings(spool_folder=tmp_path / "spool", batch_events=100, **QUICK)
    with EventSender(Service(service.address, service.key), settings) as sender:
        send(sender, 0, 1000)
        eventually(lambda: sender.stats().spooled == 1000)
        assert sender.stats().queued == 0
        service.start()
        send(sender, 1000, 500)
        eventually(lambda: sender.stats().sent == 1500)
        assert sender.stats().spooled_bytes == 0
    eventually(lambda: len(stored(service)) == 1500)
    assert once(stored(service))


def test_a_new_process_delivers_what_an_ended_one_has_spooled(service, tmp_path):
    spool = tmp_path / "spool"
    finished(python(SENDS, service.address, service.key, spool, 0, 300, "close"))
    service.start()
    with EventSender(
        Service(service.address, service.key), Settings(spool_folder=spool, **QUICK)
    ) as sender:
        eventually(lambda: sender.stats().sent == 300)
        assert sender.stats().recovered == 300
    eventually(lambda: stored(service).keys() == names(300))


def test_what_a_killed_client_had_spooled_is_delivered_and_a_torn_end_is_left_out(
    service, tmp_path
):
    spool = tmp_path / "spool"
    killed = python(SENDS, service.address, service.key, spool, 0, 500, "spooled")
    assert killed.wait(60) == -signal.SIGKILL
    killed.communicate()
    *_, segment = sorted(spool.rglob("*.segment"))
    with segment.open("ab") as file:
        file.write(segment.read_bytes()[8:60])
    service.start()
    finished(python(SENDS, service.address, service.key, spool, 500, 10, "close"))
    eventually(lambda: stored(service).keys() == names(510))
    assert once(stored(service))


def test_the_end_of_a_program_sends_what_is_in_memory(service):
    service.start()
    finished(python(SENDS, service.address, service.key, "", 0, 2500, "just end"))
    eventually(lambda: stored(service).keys() == names(2500))


def test_a_service_that_hangs_holds_up_the_end_for_a_bounded_time_only():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        script = """
import sys, time
from touchstone_events import EventSender, Service, Settings, Unit
events = EventSender(Service(sys.argv[1], "key"), Settings(close_s=1))
events.conversion(Unit("user", "u1"), "purchase")
time.sleep(0.5)
"""
        start = time.monotonic()
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        finished(python(script, address))
        assert time.monotonic() - start < 10


def test_a_connection_that_breaks_in_the_middle_is_the_same_event_again(service):
    """A paused service has the batch and cannot say so: the deadline ends the call."""
    service.start()
    settings = Settings(deadline_s=0.3, **QUICK)
    with EventSender(Service(service.address, service.key), settings) as sender:
        send(sender, 0, 10)
        assert sender.flush(30)
        stopped = threading.Thread(target=service.pause, args=(1.5,))
        stopped.start()
        time.sleep(0.2)
        send(sender, 10, 200)
        stopped.join()
        assert sender.flush(30)
        stats = sender.stats()
    assert stats.failures > 0
    assert stats.sent + stats.duplicates == 210
    eventually(lambda: stored(service).keys() == names(210))
    assert once(stored(service))


FORKS = """
import os, sys, time
import threading
from touchstone_events import About, EventSender, Service, Settings, Unit
address, key = sys.argv[1:]
events = EventSender(Service(address, key), Settings(batch_age_s=0.01, source=str(os.getpid())))
def send(names):
    for name in names:
        about = About(event_id=name)
        assert events.conversion(Unit("user", "u1"), "purchase", about=about)
stop = threading.Event()
def traffic():
    n = 0
    while not stop.is_set():
        send([f"parent{n}"]); n += 1
        stop.wait(0.0005)
    print(n, flush=True)
thread = threading.Thread(target=traffic); thread.start()
time.sleep(0.3)
children = []
for child in range(5):
    pid = os.fork()
    if pid == 0:
        send(f"child{child}.{n}" for n in range(50))
        done = events.close(20)
        left = events.stats()
        os._exit(0 if done and left.sent == 50 and left.taken == 50 else 1)
    children.append(pid)
    time.sleep(0.05)
codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
stop.set(); thread.join()
assert codes == [0] * 5, codes
"""


@pytest.mark.parametrize("support", ["0", "1"])
def test_a_child_process_sends_its_own_events_and_not_its_parents(service, support):
    service.start()
    process = python(FORKS, service.address, service.key, GRPC_ENABLE_FORK_SUPPORT=support)
    out, _ = finished(process)
    parents = int(out)
    wanted = {f"parent{n}" for n in range(parents)}
    wanted |= {f"child{child}.{n}" for child in range(5) for n in range(50)}
    eventually(lambda: stored(service).keys() == wanted)
    assert once(stored(service))


def test_every_kind_of_event_arrives_with_all_its_fields(service):
    service.start()
    user, device = Unit("user", "u1"), Unit("device", "d1")
    with EventSender(Service(service.address, service.key), Settings(source="shop")) as sender:
        about = About(linked_units=(device,), properties={"cart": {"items": [1, 2]}, "vip": True})
        sender.exposure(user, "exp", "a", config_version=7, reason="SPLIT", about=about)
        sender.conversion(user, "purchase", value=1.5, currency="EUR")
        sender.touchpoint(user, Touchpoint("email", interaction="click", cost=0.25))
        sender.identify(user, device)
        sender.identify(user, device, unlink=True)
        assert sender.flush(20)
        assert sender.stats().sent == 5
        assert sender.stats().rejected == 0
    eventually(lambda: len(stored(service, "identifies")) == 2)
    assert [len(stored(service, t)) for t in ("exposures", "conversions", "touchpoints")] == [1] * 3


def test_a_wrong_key_is_told_and_costs_no_event(service, caplog):
    service.start()
    sender = EventSender(Service(service.address, "tsk_wrong"), Settings(**QUICK))
    send(sender, 0, 5)
    eventually(lambda: sender.stats().failures > 1)
    assert (sender.stats().refused, sender.stats().queued) == (0, 5)
    assert not sender.close(0.1)
    assert "UNAUTHENTICATED" in caplog.text
    assert "tsk_wrong" not in caplog.text


def test_a_key_may_be_renewed_while_it_sends(service):
    service.start()
    keys = ["tsk_old"]
    with EventSender(Service(service.address, lambda: keys[-1]), Settings(**QUICK)) as sender:
        send(sender, 0, 5)
        eventually(lambda: sender.stats().failures > 1)
        keys.append(service.key)
        assert sender.flush(20)
        assert sender.stats().sent == 5


def test_no_thread_and_no_connection_before_the_first_event():
    before = threading.active_count()
    sender = EventSender(Service(f"127.0.0.1:{free_port()}", "key"))
    assert threading.active_count() == before
    assert sender.close()
    assert not sender.conversion(Unit("user", "u1"), "purchase")
    assert (sender.stats().taken, sender.stats().dropped) == (0, 1)


def test_what_cannot_be_an_event_is_counted_and_never_raised(caplog):
    sender = EventSender(Service(f"127.0.0.1:{free_port()}", "key"), Settings(event_bytes=1000))
    number: Any = 5
    bad: list[tuple[Any, Any]] = [
        (Unit("user", number), {}),
        (Unit("user", "\ud800"), {}),
        (Unit("user", "u1"), {"value": "much"}),
        (None, {}),
        (Unit("user", "u1"), {"about": About(properties={"x": object()})}),
        (Unit("user", "u1"), {"about": About(properties={"x": "y" * 1000})}),
    ]
    for unit, more in bad:
        assert sender.conversion(unit, "purchase", **more) is False
    assert (sender.stats().invalid, sender.stats().taken) == (len(bad), 0)
    assert sum("not taken" in record.message for record in caplog.records) == 1
    assert sender.close(0.1)


def test_a_report_that_raises_does_not_end_the_delivery(service, caplog):
    service.start()

    def report(problem):
        raise RuntimeError("the product's own bug")

    with EventSender(Service(service.address, service.key), report=report) as sender:
        sender.conversion(Unit("user", "u1"), "Not A Name")
        assert sender.flush(20)
        send(sender, 0, 3)
        assert sender.flush(20)
        assert (sender.stats().rejected, sender.stats().sent) == (1, 3)
    assert "the function for problems failed" in caplog.text


def test_a_report_may_use_the_sender(service):
    service.start()
    seen: list[tuple[int, bool]] = []

    def report(problem):
        assert sender.conversion(Unit("user", "u1"), "complaint")
        seen.append((sender.stats().rejected, sender.flush(0.05)))

    with EventSender(Service(service.address, service.key), report=report) as sender:
        sender.conversion(Unit("user", "u1"), "Not A Name")
        assert sender.flush(20)
        eventually(lambda: sender.stats().sent == 1)
    assert seen == [(1, False)]


def test_threads_of_a_product_may_all_send_at_once(service):
    service.start()
    with EventSender(Service(service.address, service.key)) as sender:
        threads = [threading.Thread(target=send, args=(sender, n * 500, 500)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    stats = sender.stats()
    assert (stats.taken, stats.sent, stats.queued) == (4000, 4000, 0)
    eventually(lambda: stored(service).keys() == names(4000))


def test_children_have_ids_of_their_own():
    sender = EventSender(Service(f"127.0.0.1:{free_port()}", "key"))
    read, write = os.pipe()
    pid = os.fork()
    machine = sender._system
    drawn = b"".join(machine.random_bytes(8) for _ in range(3))
    if pid == 0:
        os.write(write, drawn)
        os._exit(0)
    os.waitpid(pid, 0)
    assert os.read(read, 100) != drawn
    os.close(read)
    os.close(write)
