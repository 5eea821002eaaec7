"""A project whose id lists do not come holds up no other."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

from touchstone.assignment.v1 import condition_pb2
from touchstone_assignment.conditions import IdSet

from services.assignment.application.snapshots import Snapshots
from services.assignment.ports import ProjectConfig
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
