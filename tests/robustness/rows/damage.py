"""Rows 14 and 15: files that are damaged while nobody runs, and files that nobody committed.

What is damaged is refused, repaired or told of by the reader: no number is ever wrong.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from shared.errors import DomainError
from shared.lake.snapshot import LakeEventTables
from tests.robustness.content import event_of, row_of
from tests.robustness.fault import SERVICE, Fault, Play, Scene, open_scene
from tests.robustness.faults import EventsProcess, NotServingError
from tests.robustness.model import Verdict, stored_rows
from tests.robustness.reader import read_ids, wait_for_watermark
from tests.robustness.rows.duplicates import by_hand, names
from tests.robustness.twins.reads_folder import FolderTables

EVENTS = 1_500
LONG_FLUSH_S = 60.0
MARK = b"q-17"
Harm = Callable[[Path, np.random.Generator], None]


def cut(file: Path, dice: np.random.Generator) -> None:
    """Lose the end."""
    size = file.stat().st_size
    with file.open("r+b") as opened:
        opened.truncate(int(dice.integers(size)))


def flip(file: Path, dice: np.random.Generator) -> None:
    """Turn a few bits of it."""
    content = bytearray(file.read_bytes())
    for place in dice.integers(len(content), size=3):
        content[int(place)] ^= 1 << int(dice.integers(8))
    file.write_bytes(bytes(content))


def flip_event(file: Path, _dice: np.random.Generator) -> None:
    """Turn a bit of an event's id, wherever it stands."""
    content = file.read_bytes()
    assert MARK in content, f"{file} holds no {MARK!r}"
    file.write_bytes(content.replace(MARK, bytes([*MARK[:-1], MARK[-1] ^ 1])))


def blank(file: Path, dice: np.random.Generator) -> None:
    """Read zeros where a page of it was."""
    content = bytearray(file.read_bytes())
    place = int(dice.integers(max(1, len(content) - 4096)))
    content[place : place + 4096] = bytes(len(content[place : place + 4096]))
    file.write_bytes(bytes(content))


def flip_early(file: Path, dice: np.random.Generator) -> None:
    """Turn one bit of its first half: many commits stand behind it."""
    content = bytearray(file.read_bytes())
    content[int(dice.integers(len(content) // 2))] ^= 1 << int(dice.integers(8))
    file.write_bytes(bytes(content))


def remove(file: Path, _dice: np.random.Generator) -> None:
    """Lose it."""
    file.unlink()


@dataclass(frozen=True, slots=True)
class Part:
    """Files that may be damaged, below the data folder."""

    pattern: str
    harms: tuple[Harm, ...]
    pending: bool = False
    """Damaged while acknowledged events are in the journal only; else all are in the tables."""
    folded: bool = False
    """The journal's log was folded into its file before."""
    refused: bool = False
    """Whether every one of these harms must be refused: nothing else could tell of it."""


PARTS = (
    Part("events/journal.db", (flip_event, cut, flip, blank), pending=True, folded=True),
    # The end of the log is another matter: see the README.
    Part("events/journal.db-wal", (flip_early, remove), pending=True, refused=True),
    Part("events/journal.db", (cut, flip, blank)),
    Part("events/rejected.db", (cut, flip, blank)),
    # A single bit inside of a page may go unseen: see the track record.
    Part("lake/*/project=*/*/*.parquet", (cut, blank, remove)),
    Part("lake/*/_delta_log/*.json", (cut, flip, blank, remove)),
    Part("lake/_watermark.json", (cut, flip, blank, remove)),
    Part("state.db", (cut, flip, blank)),
    Part("audit.key", (cut, flip)),
)


@dataclass(frozen=True, slots=True)
class Kept:
    """Two data folders of one history: everything in the tables, or a part in the journal only."""

    scene: Scene
    settled: Path
    pending: Path


def _damages(play: Play) -> Verdict:
    """Damage one file at a time, `rounds` times, and look what the service and a reader say."""
    kept = _keep(play)
    dice = play.dice
    outcomes: dict[str, int] = {}
    for number in range(play.rounds):
        part = PARTS[number % len(PARTS)]
        harm = part.harms[(number // len(PARTS)) % len(part.harms)]
        outcome = _damage(kept, part, harm, dice)
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
    history = kept.scene.history
    history.examples.append(f"outcomes: {outcomes}")
    acknowledged = sum(len(call.acknowledged()) for call in history.calls)
    broken, examples = dict(history.complaints), tuple(history.examples)
    return Verdict(acknowledged, faults=play.rounds, broken=broken, examples=examples)


def _keep(play: Play) -> Kept:
    process = EventsProcess(play.folder / "data", SERVICE)
    scene = open_scene(play, process)
    with by_hand(scene) as hand:
        for project in scene.target.keys:
            for batch in range(3):
                hand.send(names(project, f"d{batch}-", EVENTS // 6))
                wait_for_watermark(process.lake, scene.history.answered[-1].token)
    process.terminate()
    settled, pending = play.folder / "settled", play.folder / "pending"
    shutil.copytree(process.data, settled)
    process.flush_interval_s = LONG_FLUSH_S
    process.start()
    with by_hand(scene) as hand:
        hand.send(names("acme", "p-", 10))  # the first turn of flushing comes at once
        for start in range(0, EVENTS // 3, 100):
            hand.send(names("acme", "q-", EVENTS // 3)[start : start + 100])
    process.kill()
    shutil.copytree(process.data, pending)
    process.flush_interval_s = 0.05
    return Kept(scene, settled, pending)


def _damage(kept: Kept, part: Part, harm: Harm, dice: np.random.Generator) -> str:
    """What became of one damage: refused, unreadable, whole, or a complaint."""
    scene, process = kept.scene, kept.scene.process
    shutil.rmtree(process.data)
    shutil.copytree(kept.pending if part.pending else kept.settled, process.data)
    if part.folded:
        with sqlite3.connect(process.data / "events" / "journal.db") as connection:
            connection.execute("PRAGMA application_id = 0")  # as when it is closed
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.close()
    files = sorted(process.data.glob(part.pattern))
    file = files[int(dice.integers(len(files)))]
    harm(file, dice)
    what = f"{harm.__name__} {file.relative_to(process.data)}"
    process.module = scene.play.module
    try:
        process.start()
    except NotServingError as error:
        if "error: " not in str(error):
            scene.history.complain("refusal", f"{what}: no word of what is wrong: {error}")
        return "refused"
    if part.refused:
        scene.history.complain("refusal", f"{what}: it starts")
    try:
        return _look(scene, what, part.pending)
    finally:
        process.terminate()


def _look(scene: Scene, what: str, pending: bool) -> str:
    """Read what a service that started shows, and compare."""
    calls = scene.history.calls if pending else scene.history.calls[:6]
    outcome = "whole"
    for project in scene.target.keys:
        mine = [call for call in calls if call.project == project]
        wanted = Counter(row_of(event_of(n)) for call in mine for n in call.acknowledged())
        try:
            if pending:
                wait_for_watermark(scene.process.lake, mine[-1].token, 3)
            stored = stored_rows(scene.process.lake, {project})
        except (DomainError, ValueError):  # a JSON column that is none any more
            outcome = "unreadable"
            continue
        seen = Counter(row for rows in stored.values() for row in rows)
        if seen != wanted:
            lost, more = (wanted - seen).total(), (seen - wanted).total()
            scene.history.complain("wrong numbers", f"{what}: {lost} missing, {more} too many")
    return outcome


def _strangers(play: Play) -> Verdict:
    """Put files among those of the tables that no commit names, before and while it runs."""
    scene = open_scene(play)
    tables = FolderTables if play.module.endswith("reads_folder") else LakeEventTables
    try:
        for number in range(play.rounds):
            with by_hand(scene) as hand:
                for project in scene.target.keys:
                    hand.send(names(project, f"o{number}-", 200))
                    wait_for_watermark(scene.process.lake, scene.history.answered[-1].token)
            _put_strangers(scene, play.dice)
            scene.faults += 1
            for project in scene.target.keys:
                wanted = 200 * (number + 1)
                try:
                    seen = read_ids(tables(scene.process.lake), project)
                except DomainError as error:
                    scene.history.complain("read", error.message)
                    continue
                if (len(seen), seen.total()) != (wanted, wanted):
                    text = f"{seen.total()} rows, {len(seen)} ids, wanted {wanted}"
                    scene.history.complain("doubled", text)
            scene.process.kill()
            scene.process.start()
        return scene.verdict()
    finally:
        scene.process.kill()


def _put_strangers(scene: Scene, dice: np.random.Generator) -> None:
    """Beside a file of each table: half of it, it without its end, another schema, a copy."""
    for table in scene.process.lake.glob("*/_delta_log"):
        files = sorted(table.parent.glob("project=*/*/part-*.parquet"))
        if not files:
            continue
        file = files[int(dice.integers(len(files)))]
        content = file.read_bytes()
        beside = {"half": content[: len(content) // 2], "no-end": content[:-8], "copy": content}
        for name, data in beside.items():
            file.with_name(f"part-{name}.parquet").write_bytes(data)
        pq.write_table(pa.table({"other": [1, 2]}), file.with_name("part-other.parquet"))
        file.with_name(f"{file.name}.tmp#1").write_bytes(content[:100])


DAMAGE = Fault(
    14,
    "a file is cut, loses bits, a page or itself while nobody runs",
    _damages,
    twins={"no_checksum": 1, "trusts_log": 2},
    short=3,
    long_twins=("trusts_log",),
    rounds=120,
)
STRANGERS = Fault(
    15,
    "half-written files, without an end, of another schema, lie among the tables",
    _strangers,
    twins={"reads_folder": 1},
    rounds=6,
)
