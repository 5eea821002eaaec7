"""Rows 17, 18 and 19: the store of the configuration goes away, and the disk is damaged."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import sqlalchemy as sa

from shared.state.database import Database
from tests.robustness.assigning import Stage, on_stage
from tests.robustness.fault import PROJECTS, Fault
from tests.robustness.rows.pause import stopped

AWAY_S = 1.5
PROJECT, RIVAL = PROJECTS
_SPOIL = """UPDATE assignment_experiments SET document = '{"format"\\: 1}'
 WHERE project = :project AND experiment_id = 'price'"""
_NEXT_VERSION = "UPDATE assignment_config SET version = version + 1 WHERE project = :project"


def _while_running(stage: Stage) -> None:
    """The store is gone, or in turn stands still: decisions stay, their age grows."""
    for number in range(stage.play.rounds):
        before = stage.assign()
        with stopped(stage.server) if number % 2 else stage.store_away():
            _same_for(stage, before.rows, AWAY_S)
            stage.expect("age", stage.assign().age_s > AWAY_S / 2, True)
        slots = 5_000 + 500 * (number + 1)
        stage.comes_true("recovery", lambda slots=slots: _ramped(stage, slots))


def _ramped(stage: Stage, slots: int) -> bool:
    version = stage.assign().config_version
    stage.ramp("button", slots)
    return stage.assign().config_version > version


def _same_for(stage: Stage, rows: object, seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        code = stage.code()
        stage.expect("served", code, "OK")
        if code == "OK":
            stage.expect("decisions", stage.assign().rows, rows)
        time.sleep(0.1)


def _at_start(stage: Stage) -> None:
    """The store is away when the process starts: with a snapshot, and then without one."""
    for number in range(stage.play.rounds):
        before = stage.assign()
        _on_disk(stage, PROJECT, before.config_version)
        stage.process.terminate()
        with stage.store_away():
            stage.process.begin()
            ready = stage.process.wait_serving(wanted=True, timeout_s=20)
            stage.expect("readiness", ready, True)
            _same_for(stage, before.rows, 0.5)
            stage.process.kill()
            for path in _rulesets(stage):
                path.unlink()
            stage.process.begin()
            stage.comes_true("refusal", lambda: stage.code() == "UNAVAILABLE")
            stage.expect("readiness", stage.process.serving(), False)
        stage.comes_true("recovery", lambda rows=before.rows: stage.assign().rows == rows)
        slots = 6_000 + 500 * number
        stage.comes_true("changes", lambda slots=slots: _ramped(stage, slots))


def _damaged(stage: Stage) -> None:
    """The newest snapshot is damaged, older or of another project: the one before decides."""
    dice = stage.play.dice
    for number in range(stage.play.rounds):
        stage.ramp("button", 5_000 + 400 * (2 * number + 1))
        before = stage.assign()
        _on_disk(stage, PROJECT, before.config_version)
        stage.ramp("button", 5_000 + 400 * (2 * number + 2))
        after = stage.assign()
        _on_disk(stage, PROJECT, after.config_version)
        stage.process.terminate()
        damage = DAMAGES[number % len(DAMAGES)]
        with stage.store_away():
            damage(stage, dice)
            stage.process.start()
            stage.expect("whole", stage.assign().rows, before.rows)
        stage.comes_true("recovery", lambda rows=after.rows: stage.assign().rows == rows)
    _malformed(stage)


def _malformed(stage: Stage) -> None:
    """What cannot be understood changes nothing, and holds up no other project."""
    before = stage.assign().rows
    database = Database.open(stage.url)
    try:
        with database.begin() as connection:
            for text in (_SPOIL, _NEXT_VERSION):
                connection.execute(sa.text(text), {"project": PROJECT})
        stage.start("title", RIVAL)
        _same_for(stage, before, 1.0)
        other = stage.assign(RIVAL)
        stage.expect("others", len({row[2] for row in other.rows}) > 1, True)
    finally:
        database.close()


def _rulesets(stage: Stage) -> list[Path]:
    folder = stage.process.data / "assignment" / "rulesets"
    return [*folder.glob("*.ruleset"), *folder.glob("*.previous")]


def _file(stage: Stage, name: str) -> Path:
    return stage.process.data / "assignment" / "rulesets" / name


def _on_disk(stage: Stage, project: str, version: int) -> None:
    wanted = f'"config_version": {version},'.encode()
    path = _file(stage, f"{project}.ruleset")
    stage.comes_true("kept", lambda: path.exists() and wanted in path.read_bytes())


def _flip(stage: Stage, dice: np.random.Generator) -> None:
    path = _file(stage, f"{PROJECT}.ruleset")
    data = bytearray(path.read_bytes())
    # A slot of an experiment: still a ruleset, and another one.
    at = data.rindex(b"user") if dice.random() < 0.5 else int(dice.integers(len(data)))
    data[at] ^= 1
    path.write_bytes(data)


def _cut(stage: Stage, dice: np.random.Generator) -> None:
    path = _file(stage, f"{PROJECT}.ruleset")
    data = path.read_bytes()
    path.write_bytes(data[: int(dice.integers(len(data)))])


def _foreign(stage: Stage, _dice: np.random.Generator) -> None:
    _file(stage, f"{PROJECT}.ruleset").write_bytes(_file(stage, f"{RIVAL}.ruleset").read_bytes())


DAMAGES: tuple[Callable[[Stage, np.random.Generator], None], ...] = (_flip, _cut, _foreign)


WHILE_RUNNING = Fault(
    17,
    "the store of the configuration is away while assignment decides",
    on_stage(_while_running),
    twins={"forgets_rules": 1},
    short=1,
    rounds=8,
)
AT_START = Fault(
    18,
    "the store of the configuration is away when assignment starts",
    on_stage(_at_start),
    twins={"no_snapshot": 1},
    short=1,
    rounds=5,
    long_twins=("no_snapshot",),
)
DAMAGED = Fault(
    19,
    "the snapshot on the disk is damaged, of another project, or a new configuration malformed",
    on_stage(_damaged),
    twins={"trusts_snapshot": 1},
    short=1,
    rounds=9,
    long_twins=("trusts_snapshot",),
)
