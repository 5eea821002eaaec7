"""Row 3: a crash at the N-th write, sync, rename, ... for every N, while it starts and while it
runs."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from dataclasses import dataclass

import numpy as np

from shared.errors import DomainError
from tests.robustness.content import Name
from tests.robustness.fault import Fault, Play, Scene, open_scene
from tests.robustness.faults import NotServingError
from tests.robustness.history import Outcome
from tests.robustness.model import Verdict, judge, stored_rows
from tests.robustness.reader import wait_for_watermark
from tests.robustness.rows.duplicates import Hand, by_hand, names
from tests.robustness.trace import Tracer, begin_traced, cannot_trace, recording, steps

KINDS = [
    "pwrite64",
    "fdatasync",
    "fsync",
    "rename",
    "linkat",
    "unlink",
    "ftruncate",
    "mkdir",
    "write",
]
BATCHES, LARGEST = 3, 60
READABLE_S = 10.0


@dataclass(frozen=True, slots=True)
class Point:
    """The process ends before a thread's N-th call of this kind."""

    kind: str
    number: int
    starting: bool
    """Counted from the start of the process, and not from when it serves."""


def _every_step(play: Play) -> Verdict:
    """Crash at `rounds` of all points, each followed by a start in peace."""
    scene = open_scene(play)
    history = scene.history
    try:
        points = _points(scene)
        order = _order(points, play)
        for number, chosen in enumerate(order):
            crashed = _crash(scene, points[chosen], number)
            scene.faults += crashed
            _judge_round(scene, number, points[chosen])
        if not scene.faults:
            history.complain("steps", "no point was ever reached")
        if not scene.process.runs:
            scene.process.start()
        return scene.verdict()
    finally:
        scene.process.kill()


def _order(points: list[Point], play: Play) -> list[int]:
    """All points, or so many of them by chance: early ones first, because they are always met."""
    weights = np.array([1.0 / point.number for point in points])
    size = min(play.rounds, len(points))
    chosen = play.dice.choice(len(points), size, replace=False, p=weights / weights.sum())
    return [int(one) for one in chosen]


def _points(scene: Scene) -> list[Point]:
    """Every point of a start on tables that are there, and of a few batches, by a recording."""
    points: list[Point] = []
    for starting in (True, False):
        trace = scene.play.folder / f"trace-{starting}"
        trace.mkdir()
        if starting:
            scene.process.kill()
            tracer = begin_traced(scene.process, *recording(trace))
            scene.process.wait_started()
        else:
            tracer = Tracer(scene.process, *recording(trace))
            _batches(scene, "probe")
        scene.process.kill() if starting else scene.process.terminate()
        tracer.close()
        counts = Counter((step.name, step.thread) for step in steps(trace, scene.process.data))
        most: Counter[str] = Counter()
        for (name, _thread), count in counts.items():
            most[name] = max(most[name], count)
        points += [
            Point(kind, number, starting) for kind in KINDS for number in range(1, most[kind] + 1)
        ]
        scene.process.start()
    return points


def _crash(scene: Scene, point: Point, number: int) -> bool:
    """Send batches to a process that ends at a point; whether it did before it was stopped."""
    inject = ("-o", "/dev/null", "-e", f"trace={point.kind}", "-e", "signal=none")
    kill = ("-e", f"inject={point.kind}:signal=KILL:when={point.number}")
    process = scene.process
    if point.starting:
        process.kill()
        tracer = begin_traced(process, *inject, *kill)
    else:
        if not process.runs:
            process.start()
        tracer = Tracer(process, *inject, *kill)
    with contextlib.suppress(NotServingError):
        process.wait_started()
        _batches(scene, f"s{number}-")
    ended = not process.runs
    process.terminate()
    tracer.close()
    return ended


def _batches(scene: Scene, prefix: str) -> None:
    """A few batches of two projects, with repetitions and conflicts, and wait for their reading."""
    dice = np.random.default_rng([scene.play.seed, len(prefix)])
    with by_hand(scene) as hand:
        for number in range(BATCHES):
            project = ("acme", "rival")[number % 2]
            new = names(project, f"{prefix}{number}-", int(dice.integers(1, LARGEST)))
            if not _sent(hand, [*new, new[0], new[-1]._replace(take=1)]):
                return
    calls = scene.history.answered
    with contextlib.suppress(DomainError):
        end = time.monotonic() + READABLE_S
        while scene.process.runs and time.monotonic() < end:
            with contextlib.suppress(DomainError):
                wait_for_watermark(scene.process.lake, calls[-1].token, timeout_s=0.1)
                return


def _sent(hand: Hand, batch: list[Name]) -> bool:
    try:
        hand.send(batch)
    except AssertionError:
        return False
    return True


def _judge_round(scene: Scene, number: int, point: Point) -> None:
    """Start in peace, stop, and compare what the round sent; each batch is there whole or not."""
    process, history = scene.process, scene.history
    try:
        process.start()
        process.terminate()
    except NotServingError as error:
        history.complain("start", f"{point}: {error}")
        return
    stored = stored_rows(process.lake, {"acme", "rival"})
    for call in history.calls:
        new = [n for n in call.names if n.event_id.startswith(f"s{number}-")]
        if call.outcome is Outcome.UNKNOWN and new:
            held = {(n.project, n.event_id) in stored for n in new}
            if len(held) > 1:
                history.complain("half", f"{point}: a part of {new[0]}... is stored")
    before = sum(history.complaints.values())
    judge(history, process.lake, process.rejected, 1)
    if sum(history.complaints.values()) > before:
        history.examples.append(f"after {point}")


STEPS = Fault(
    3,
    "a crash at the N-th write, sync, rename, link, ... of a thread",
    _every_step,
    twins={"no_transaction": 8},
    rounds=80,
    lacks=cannot_trace,
)
