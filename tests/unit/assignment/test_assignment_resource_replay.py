"""Whatever is done to a project, each version can be loaded as it was, and decides the same."""

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from touchstone_assignment.subject import Subject

from services.assignment.adapters.sql import migrate_assignment
from services.assignment.application import schema
from services.assignment.application.domains import release_domain, update_domain
from services.assignment.application.find_resource import Change, Which
from services.assignment.application.holdouts import end_holdout
from services.assignment.application.update_layer import UpdateLayer, update_layer
from services.assignment.domain.attribute import AttributeType
from services.assignment.domain.experiment import State
from services.assignment.domain.parameter import Parameter
from services.assignment.ports import ProjectConfig
from shared.errors import DomainError
from shared.state.database import Database
from tests.unit.assignment.storing import COOL_DOWN, START, Stored

# A domain, a layer in it with an experiment, and one beside it: what chance goes on from.
FIRST = [(0, 0), (2, 0), (1, 2), (10, 0), (10, 2), (11, 2), (12, 2), (11, 0), (5, 1)]
UNITS = [Subject({"user": f"u{number}"}) for number in range(20)]


def grow(stored: Stored, n: int) -> Any:
    change = Change(Which("acme", f"d{n}"), {"traffic_slots": 2500})
    return stored.change(lambda c: update_domain(change, c, START))


def release(stored: Stored, n: int) -> Any:
    return stored.change(lambda c: release_domain(Which("acme", f"d{n}"), c, COOL_DOWN, START))


def end(stored: Stored, n: int) -> Any:
    return stored.change(lambda c: end_holdout(Which("acme", f"h{n}"), c, START))


def declare(stored: Stored, n: int) -> Any:
    command = schema.CreateAttribute("acme", f"a{n}", AttributeType.STRING)
    return stored.change(lambda c: schema.create_attribute(command, c, START))


def undeclare(stored: Stored, n: int) -> Any:
    return stored.change(lambda c: schema.delete_attribute(Which("acme", f"a{n}"), c, START))


def parameters(stored: Stored, n: int) -> Any:
    found = tuple(Parameter(f"p{n}_{m}", str(m)) for m in range(n + 1))
    command = UpdateLayer("acme", f"l{n}", parameters=found)
    return stored.change(lambda c: update_layer(command, c, START))


STEPS: tuple[Callable[[Stored, int], Any], ...] = (
    lambda s, n: s.layer(f"l{n}"),
    lambda s, n: s.layer(f"l{n}", domain=f"d{(n + 1) % 3}"),
    lambda s, n: s.domain(f"d{n}", f"l{n}", 2000),
    grow,
    release,
    lambda s, n: s.holdout(f"h{n}", 2000),
    lambda s, n: s.holdout(f"h{n}", 3000, layers=(f"l{n}",)),
    end,
    declare,
    undeclare,
    parameters,
    lambda s, n: s.experiment(f"e{n}", layer=f"l{n}", traffic_slots=4000),
    lambda s, n: s.move(f"e{n}", State.RUNNING),
    lambda s, n: s.move(f"e{n}", State.STOPPED),
)


def as_it_decides(config: ProjectConfig) -> ProjectConfig:
    """A layer says when it was last changed, which decides nothing and is not kept by version."""
    layers = {key: replace(found, config_version=0) for key, found in config.layers.items()}
    return replace(config, layers=layers)


def decisions(stored: Stored, as_of: int | None = None) -> list[object]:
    evaluator = stored.evaluator(as_of)
    keys = sorted(evaluator.experiments)
    return [
        *(evaluator.decide(key, unit) for key in keys for unit in UNITS),
        *(evaluator.held_out(unit) for unit in UNITS),
        *(evaluator.parameters(unit) for unit in UNITS),
    ]


@settings(max_examples=12, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(range(len(STEPS))), st.integers(0, 2)), max_size=25))
def test_every_version_is_what_it_was(steps: list[tuple[int, int]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        database = Database.open(f"sqlite:///{Path(folder) / 'state.db'}")
        migrate_assignment(database)
        stored = Stored(database)
        seen = {0: (as_it_decides(stored.load()), decisions(stored))}
        for step, number in FIRST + steps:
            try:
                STEPS[step](stored, number)
            except DomainError:
                # What is refused changes nothing, and that is part of what is checked.
                before = stored.load()
                assert as_it_decides(before) == seen[before.config_version][0]
                continue
            now = stored.load()
            seen[now.config_version] = (as_it_decides(now), decisions(stored))
        assert len(seen) > len(FIRST)
        for version, (config, decided) in seen.items():
            assert as_it_decides(stored.load(version)) == config
            assert decisions(stored, version) == decided
        database.close()
