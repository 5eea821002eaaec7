"""A project whose id lists do not come holds up no other."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from touchstone.assignment.v1 import condition_pb2
from touchstone_assignment.conditions import IdSet

from services.assignment.application.snapshots import Snapshots
from services.assignment.ports import ProjectConfig
from shared.errors import Code, DomainError
from shared.testing.fakes import FixedClock
from tests.unit.assignment import ruling

NOW = datetime(2026, 3, 1, tzinfo=UTC)
WAIT_S = 10


class Reader:
    """ConfigurationReader of projects without experiments."""

    @contextmanager
    def read(self) -> Iterator[Any]:
        yield SimpleNamespace(load=lambda _project: ProjectConfig(3, {}, {}))


def test_a_project_that_waits_for_its_lists_holds_up_no_other() -> None:
    waits, comes = threading.Event(), threading.Event()

    def id_sets(_digest: str) -> IdSet:
        waits.set()
        assert comes.wait(WAIT_S)
        return IdSet.of_ids([])

    targeting = condition_pb2.Condition(audience="vip")
    large = ruling.ruleset(ruling.experiment(targeting=targeting))
    large.audiences.add(audience="vip", unit_type="user", digest="ab" * 32)
    snapshots = Snapshots(Reader(), FixedClock(NOW), id_sets=id_sets)
    held = threading.Thread(target=snapshots.restore, args=(large, NOW), daemon=True)
    held.start()
    assert waits.wait(WAIT_S)
    other = threading.Thread(target=snapshots.refresh, args=("quick",), daemon=True)
    other.start()
    other.join(WAIT_S)
    done = snapshots.known("quick")
    assert snapshots.known("acme") is None
    comes.set()
    held.join(WAIT_S)
    assert done is not None
    assert set(snapshots.all()) == {"acme", "quick"}


class Hanging:
    """ConfigurationReader of a number of projects, some of which hang until they are let go."""

    def __init__(self, projects: int, hanging: set[str]) -> None:
        self.stored = {f"p{n:02}": 3 for n in range(projects)}
        self.hanging = hanging
        self.go = threading.Event()
        self.loads: list[str] = []

    @contextmanager
    def read(self) -> Iterator[Any]:
        yield SimpleNamespace(load=self.load, versions=lambda: dict(self.stored))

    def load(self, project: str) -> ProjectConfig:
        self.loads.append(project)
        if project in self.hanging:
            assert self.go.wait(WAIT_S)
        return ProjectConfig(self.stored[project], {}, {})


def test_projects_that_hang_hold_up_no_other_neither_now_nor_later() -> None:
    hanging = {f"p{n:02}" for n in range(6)}  # more than are loaded at once
    reader = Hanging(12, hanging)
    snapshots = Snapshots(reader, FixedClock(NOW), patience_s=0.05)
    for _ in range(3):
        with pytest.raises(DomainError) as slow:
            snapshots.poll()
    assert slow.value.code is Code.DEADLINE_EXCEEDED
    assert all(f"project '{project}' takes longer" in slow.value.message for project in hanging)
    assert set(snapshots.all()) == reader.stored.keys() - hanging
    assert snapshots.confirmed("p00") is None
    assert snapshots.confirmed("p11") == NOW
    reader.stored["p11"] = 4
    with pytest.raises(DomainError):
        snapshots.poll()
    assert snapshots.of("p11").config_version == 4
    assert max(reader.loads.count(project) for project in hanging) == 1
    reader.go.set()
    while len(snapshots.all()) < 12:
        with suppress(DomainError):
            snapshots.poll()
    assert snapshots.poll() == 0
    assert snapshots.confirmed("p00") == NOW
