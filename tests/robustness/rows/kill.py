"""Rows 1, 6 and 16: the process ends while it ingests."""

from __future__ import annotations

from tests.robustness.fault import Fault, Play, Scene, under_traffic
from tests.robustness.model import Verdict


def kill(scene: Scene) -> None:
    """kill -9, then start again."""
    scene.process.kill()
    scene.process.start()


def terminate(scene: Scene) -> None:
    """SIGTERM in the middle of calls, then start again."""
    status = scene.process.terminate()
    if status:
        scene.history.complain("exit", f"status {status} after SIGTERM")
    scene.process.start()


def _kills(play: Play) -> Verdict:
    return under_traffic(play, kill)


def _terminations(play: Play) -> Verdict:
    return under_traffic(play, terminate)


KILL = Fault(
    1,
    "kill -9 while it ingests",
    _kills,
    twins={"early_ack": 1, "early_watermark": 2, "lost_batch": 2},
    short=2,
    rounds=100,
    long_twins=("lost_batch", "early_watermark"),
)
TERMINATE = Fault(
    16,
    "SIGTERM while it ingests",
    _terminations,
    twins={"early_ack": 1},
    short=1,
    rounds=30,
    long_twins=("early_ack",),
)
