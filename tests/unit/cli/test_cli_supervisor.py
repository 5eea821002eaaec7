"""The supervisor over tiny programs: start, restart with growing delays, drain, no orphans."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from services.cli.log_tail import last_error
from services.cli.settings import read_settings
from services.cli.suite import free_addresses, only_supervisor, programs, require_free_addresses
from services.cli.supervisor import Policy, Program, Stop, Supervisor, ended
from shared.errors import DomainError
from shared.settings import SERVICES

QUICK = Policy(poll_s=0.02, first_delay_s=0.05, max_delay_s=0.2, start_timeout_s=10, grace_s=5)
# Says that it is up by a file, and leaves one behind when it is asked to end.
OBEDIENT = """
import pathlib, signal, sys, time
here = pathlib.Path(sys.argv[1])
def end(*_):
    (here / "drained").touch()
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
(here / "draft").write_text(str(__import__("os").getpid()))
(here / "draft").rename(here / "up")
time.sleep(60)
"""


def program(folder: Path, code: str, name: str = "one") -> Program:
    return Program(name, (sys.executable, "-c", code, str(folder)), folder / f"{name}.log")


def supervisor(folder: Path, said: list[str], policy: Policy = QUICK) -> Supervisor:
    return Supervisor(lambda p: (folder / "up").exists(), said.append, policy)


def wait_for(check: Callable[[], object], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # A process that nobody has waited for yet is over all the same.
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().split()[2] != "Z"


def test_drain_asks_each_program_to_end(tmp_path: Path) -> None:
    said: list[str] = []
    stop = Stop()
    one = supervisor(tmp_path, said)
    assert one.start([program(tmp_path, OBEDIENT)], stop)
    pid = int((tmp_path / "up").read_text())
    one.drain(stop)
    assert (tmp_path / "drained").exists()
    assert not is_alive(pid)
    assert said == []


def test_program_that_ignores_the_request_is_killed_after_the_grace(tmp_path: Path) -> None:
    deaf = OBEDIENT.replace("signal.SIGTERM, end", "signal.SIGTERM, signal.SIG_IGN")
    said: list[str] = []
    stop = Stop()
    policy = Policy(poll_s=0.02, grace_s=0.3)
    one = supervisor(tmp_path, said, policy)
    one.start([program(tmp_path, deaf)], stop)
    pid = int((tmp_path / "up").read_text())
    one.drain(stop)
    assert not is_alive(pid)
    assert said == ["one did not end in time and is killed"]


def test_second_wish_to_stop_does_not_wait_for_the_grace(tmp_path: Path) -> None:
    deaf = OBEDIENT.replace("signal.SIGTERM, end", "signal.SIGTERM, signal.SIG_IGN")
    stop = Stop()
    one = supervisor(tmp_path, [], Policy(poll_s=0.02, grace_s=30))
    one.start([program(tmp_path, deaf)], stop)
    stop.ask()
    stop.ask()
    began = time.monotonic()
    one.drain(stop)
    assert time.monotonic() - began < 5


def test_program_that_dies_starts_again_and_serves(tmp_path: Path) -> None:
    said: list[str] = []
    stop = Stop()
    one = supervisor(tmp_path, said)
    one.start([program(tmp_path, OBEDIENT)], stop)
    first = int((tmp_path / "up").read_text())
    watching = threading.Thread(target=one.watch, args=(stop,))
    watching.start()
    try:
        (tmp_path / "up").unlink()
        os.kill(first, signal.SIGKILL)
        wait_for(lambda: any("serves again" in line for line in said))
        second = int((tmp_path / "up").read_text())
    finally:
        stop.ask()
        watching.join()
        one.drain(stop)
    assert second != first
    assert not is_alive(second)
    assert said[0].startswith("one died (signal SIGKILL); restart 1 in 0.05 s")


def test_program_that_hangs_is_noticed_killed_and_started_again(tmp_path: Path) -> None:
    said: list[str] = []
    stop = Stop()
    policy = Policy(
        poll_s=0.02, first_delay_s=0.05, start_timeout_s=10, grace_s=0.2, probe_s=0.05, max_missed=3
    )

    def answers(p: Program) -> bool:
        return not (tmp_path / "hung").exists()

    one = Supervisor(lambda p: (tmp_path / "up").exists(), said.append, policy, answers=answers)
    one.start([program(tmp_path, OBEDIENT)], stop)
    first = int((tmp_path / "up").read_text())
    watching = threading.Thread(target=one.watch, args=(stop,))
    watching.start()
    try:
        # It can neither answer nor end by itself.
        os.kill(first, signal.SIGSTOP)
        (tmp_path / "hung").touch()
        wait_for(lambda: said)
        (tmp_path / "up").unlink()
        wait_for(lambda: not is_alive(first))
        (tmp_path / "hung").unlink()
        wait_for(lambda: any("serves again" in line for line in said))
    finally:
        stop.ask()
        watching.join()
        one.drain(stop)
    assert said[0].startswith("one runs but did not answer 3 times in a row; restarting it")
    assert said[1].startswith("one died (signal SIGKILL); restart 1")


def test_program_that_never_serves_after_a_restart_is_ended(tmp_path: Path) -> None:
    said: list[str] = []
    stop = Stop()
    policy = Policy(poll_s=0.02, first_delay_s=0.02, start_timeout_s=0.5, grace_s=5)
    one = Supervisor(lambda p: not (tmp_path / "late").exists(), said.append, policy)
    one.start([program(tmp_path, OBEDIENT)], stop)
    wait_for((tmp_path / "up").exists)
    watching = threading.Thread(target=one.watch, args=(stop,))
    watching.start()
    try:
        (tmp_path / "late").touch()
        os.kill(int((tmp_path / "up").read_text()), signal.SIGKILL)
        wait_for(lambda: any("did not serve within" in line for line in said))
    finally:
        stop.ask()
        watching.join()
        one.drain(stop)


def test_program_that_keeps_dying_ends_everything_with_its_error(tmp_path: Path) -> None:
    brief = (
        "import pathlib, sys\n"
        "up = pathlib.Path(sys.argv[1]) / 'up'\n"
        "if up.exists(): sys.exit('error: the disk is gone')\n"
        "up.write_text('')\n"
        "import time; time.sleep(0.3)\n"
    )
    said: list[str] = []
    stop = Stop()
    policy = Policy(poll_s=0.02, first_delay_s=0.02, max_delay_s=0.05, max_failures=4)
    one = supervisor(tmp_path, said, policy)
    one.start([program(tmp_path, brief)], stop)
    with pytest.raises(DomainError, match=r"died 4 times in a row .*: the disk is gone"):
        one.watch(stop)
    one.drain(stop)
    delays = [line.split(" in ")[1].split(" s")[0] for line in said if "restart" in line]
    assert delays == ["0.02", "0.04", "0.05"]


def test_program_that_cannot_start_ends_the_others(tmp_path: Path) -> None:
    stop = Stop()
    one = Supervisor(
        lambda p: p.name == "one" and (tmp_path / "up").exists(), lambda line: None, QUICK
    )
    good = program(tmp_path, OBEDIENT)
    bad = program(tmp_path, "import time, sys; time.sleep(1); sys.exit('error: no room')", "two")
    with pytest.raises(DomainError, match=r"two could not start \(exit code 1\): no room"):
        one.start([good, bad], stop)
    assert not is_alive(int((tmp_path / "up").read_text()))


def test_program_that_never_serves_is_given_up(tmp_path: Path) -> None:
    stop = Stop()
    policy = Policy(poll_s=0.02, start_timeout_s=0.3, grace_s=5)
    one = Supervisor(lambda p: False, lambda line: None, policy)
    with pytest.raises(DomainError, match="one did not serve within 0 s; read"):
        one.start([program(tmp_path, OBEDIENT)], stop)


def test_wish_to_stop_ends_the_wait_for_the_start(tmp_path: Path) -> None:
    stop = Stop()
    stop.ask()
    one = Supervisor(lambda p: False, lambda line: None, QUICK)
    assert one.start([program(tmp_path, OBEDIENT)], stop) is False
    one.drain(stop)


def test_delays_double_up_to_the_longest() -> None:
    policy = Policy(first_delay_s=0.5, max_delay_s=30)
    assert [policy.delay_s(n) for n in (1, 2, 3, 7, 100)] == [0.5, 1, 2, 30, 30]


def test_child_ends_when_its_supervisor_is_killed(tmp_path: Path) -> None:
    module = tmp_path / "sleeper.py"
    module.write_text(
        "import os, pathlib, time\n"
        f"pathlib.Path({str(tmp_path / 'pid')!r}).write_text(str(os.getpid()))\n"
        "time.sleep(60)\n"
    )
    parent = (
        "import subprocess, sys, os, time\n"
        "r, w = os.pipe()\n"
        "subprocess.Popen([sys.executable, '-m', 'services.cli.child', 'sleeper'],"
        " stdin=r, process_group=0)\n"
        "time.sleep(60)\n"
    )
    roots = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[3])])
    supervising = subprocess.Popen(
        [sys.executable, "-c", parent], env={**os.environ, "PYTHONPATH": roots}
    )
    wait_for(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
    pid = int((tmp_path / "pid").read_text())
    supervising.kill()
    supervising.wait()
    wait_for(lambda: not is_alive(pid))


def test_one_supervisor_a_folder(tmp_path: Path) -> None:
    with only_supervisor(tmp_path), pytest.raises(DomainError, match=f"process {os.getpid()}"):
        only_supervisor(tmp_path).__enter__()
    with only_supervisor(tmp_path):
        pass


def test_port_in_use_is_named_with_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        address = f"127.0.0.1:{other.getsockname()[1]}"
        monkeypatch.setenv("TOUCHSTONE_EVENTS_ADDRESS", address)
        for name in ("assignment", "results", "attribution"):
            monkeypatch.setenv(f"TOUCHSTONE_{name.upper()}_ADDRESS", free_addresses(1)[0])
        with pytest.raises(DomainError, match=f"events cannot listen on {address}.*EVENTS_ADDRESS"):
            require_free_addresses(read_settings())


def test_port_in_use_for_http_is_named_with_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        monkeypatch.setenv("TOUCHSTONE_EVENTS_HTTP_ADDRESS", address)
        for name in SERVICES:
            monkeypatch.setenv(f"TOUCHSTONE_{name.upper()}_ADDRESS", free_addresses(1)[0])
        with pytest.raises(DomainError, match=f"events cannot .*{address}.*EVENTS_HTTP_ADDRESS"):
            require_free_addresses(read_settings())


def test_free_addresses_are_different() -> None:
    assert len(set(free_addresses(8))) == 8


def test_services_get_the_settings_but_never_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOUCHSTONE_API_KEY", "ts_secret")
    monkeypatch.setenv("TOUCHSTONE_EVENTS_HTTP_ADDRESS", "127.0.0.1:1")
    found = programs(read_settings(tmp_path))
    assert [one.name for one in found] == ["assignment", "events", "results", "attribution"]
    assert {one.environment["TOUCHSTONE_API_KEY"] for one in found} == {""}
    assert {one.environment["TOUCHSTONE_DATA"] for one in found} == {str(tmp_path)}
    assert {one.environment["TOUCHSTONE_EVENTS_HTTP_ADDRESS"] for one in found} == {"127.0.0.1:1"}


def test_last_error_finds_the_line_that_says_it(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    assert "read" in last_error(log)
    log.write_text("")
    assert "wrote nothing" in last_error(log)
    log.write_text("one\nerror: port 1 is taken\n{json}\n\n")
    assert last_error(log) == "port 1 is taken"
    log.write_text("Traceback\nValueError: x\n")
    assert last_error(log).startswith("ValueError: x (see")


def test_error_of_this_start_is_told_and_not_that_of_an_earlier_one(tmp_path: Path) -> None:
    bad = program(tmp_path, "import sys; sys.exit('error: no room')", "two")
    bad.log.write_text("error: port 1 is taken\nleaked 2 types, see refleaks.html")
    with pytest.raises(DomainError, match=r"two could not start .*: no room$"):
        supervisor(tmp_path, [], QUICK).start([bad], Stop())
    silent = program(tmp_path, "import sys; sys.exit(1)", "two")
    with pytest.raises(DomainError, match="it wrote nothing"):
        supervisor(tmp_path, [], QUICK).start([silent], Stop())


def test_error_is_found_behind_text_without_an_end_of_line(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    log.write_text('leaked, see refleaks.htmlerror: no room\n{"message": "disk error: x"}\n')
    assert last_error(log) == "no room"


def test_end_of_a_process_in_words() -> None:
    assert [ended(1), ended(-9), ended(-200)] == ["exit code 1", "signal SIGKILL", "signal 200"]
