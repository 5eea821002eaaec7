"""Row 2: the power goes; what was not synced is gone."""

from __future__ import annotations

import dataclasses
import shutil
import time
from pathlib import Path

import numpy as np

from tests.robustness.fault import PROJECTS, SERVICE, Fault, Play, Scene
from tests.robustness.faults import EventsProcess, NotServingError, make_key
from tests.robustness.history import ACCEPTED, Call, History, Outcome
from tests.robustness.image import Disk, replay
from tests.robustness.model import Verdict, judge
from tests.robustness.trace import Step, begin_traced, cannot_trace, recording, steps
from tests.robustness.traffic import Target

TRAFFIC_S = 1.5
LARGEST = 40


def _power_cuts(play: Play) -> Verdict:
    """Record one run, then cut the power at `rounds` moments of it and start on what is left."""
    play.folder.mkdir(parents=True, exist_ok=True)
    process = EventsProcess(play.folder / "data", play.module)
    keys = {project: make_key(process.data, project) for project in PROJECTS}
    scene = Scene(play, process, History(), Target(process.address, keys), LARGEST)
    before = play.folder / "before"
    shutil.copytree(process.data, before)
    changes = _record(scene)
    history = scene.history
    # The clients read the monotonic clock, the trace the wall clock.
    ahead_s = time.time() - time.monotonic()
    _complain_of_early_replies(history, changes, ahead_s)
    dice = play.dice
    total = 0
    for number in range(play.rounds):
        moment = _moment(changes, number, dice)
        shutil.rmtree(process.data)
        shutil.copytree(before, process.data)
        disk = Disk(process.data)
        replay(disk, changes, moment)
        shutil.rmtree(process.data)
        disk.cut(process.data, dice if number % 2 else None)
        verdict = _start_again(process, _until(history, moment - ahead_s), number)
        total = max(total, verdict.acknowledged)
        history.complaints.update(verdict.broken)
        history.examples += [f"cut {number}: {example}" for example in verdict.examples]
    return dataclasses.replace(
        verdict,
        acknowledged=total,
        faults=play.rounds,
        broken=dict(history.complaints),
        examples=tuple(history.examples),
    )


def _record(scene: Scene) -> list[Step]:
    """Let the clients send while every change of a file is written down."""
    trace = scene.play.folder / "trace"
    trace.mkdir()
    tracer = begin_traced(scene.process, *recording(trace))
    try:
        scene.process.wait_started()
        scene.start_traffic(clients=2, reads=False)
        time.sleep(TRAFFIC_S)
        scene.stop_traffic()
    finally:
        scene.process.kill()
        tracer.close()
    return steps(trace, scene.process.data)


def _moment(changes: list[Step], number: int, dice: np.random.Generator) -> float:
    """Somewhere in the run; every third time right after a sync, when most is not yet written."""
    syncs = [step for step in changes if step.name in {"fsync", "fdatasync"}]
    if number == 0:
        return changes[-1].end_s
    chosen = syncs if number % 3 == 0 else changes
    return chosen[int(dice.integers(len(chosen)))].end_s


def _until(history: History, moment_s: float) -> History:
    """What the clients knew at a moment; who was not answered then knows nothing."""
    known = History()
    for call in history.calls:
        if call.start_s > moment_s:
            continue
        if call.end_s > moment_s:
            call = Call(call.client, call.project, call.names, call.start_s)  # noqa: PLW2901
        known.begin(call)
    return known


def _start_again(process: EventsProcess, known: History, number: int) -> Verdict:
    """Start the service itself on what is left, let it store everything, and compare."""
    process.module = SERVICE
    try:
        process.start()
        process.terminate()
    except NotServingError as error:
        known.complain("start", f"cut {number}: {error}")
        return Verdict(0, broken=dict(known.complaints), examples=tuple(known.examples))
    return judge(known, process.lake, process.rejected, 1)


def _complain_of_early_replies(history: History, changes: list[Step], ahead_s: float) -> None:
    """An acknowledgement of something new has a sync of the journal between question and reply."""
    syncs = [
        (step.start_s, step.end_s)
        for step in changes
        if step.name in {"fsync", "fdatasync"} and _is_journal(step.path)
    ]
    for call in history.calls:
        if call.outcome is not Outcome.OK or ACCEPTED not in call.statuses:
            continue
        start, end = call.start_s + ahead_s, call.end_s + ahead_s
        if not any(start <= begun and ended <= end for begun, ended in syncs):
            history.complain("sync", f"{call.names[:2]} was acknowledged without a sync")


def _is_journal(path: Path) -> bool:
    return path.name.startswith("journal")


POWER = Fault(
    2,
    "the power goes: what was not synced is gone, more or less of it",
    _power_cuts,
    twins={"unsynced_journal": 1, "unsynced_tables": 2},
    short=2,
    long_twins=("unsynced_tables",),
    rounds=60,
    lacks=cannot_trace,
)
