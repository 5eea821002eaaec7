"""A row of the table of faults: what is done, and how it is played against a service."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tests.robustness.content import Name
from tests.robustness.faults import EventsProcess, NotServingError, make_key
from tests.robustness.history import History
from tests.robustness.model import Verdict, judge
from tests.robustness.reader import Reader
from tests.robustness.traffic import CALL_S, Choices, Client, Target

SERVICE = "services.events"
PROJECTS = ("acme", "rival")
SETTLE_S = 0.3
LAST_READS = 4


@dataclass(frozen=True, slots=True)
class Play:
    """One play of a row: `module` is the service, or a twin that breaks a promise."""

    folder: Path
    module: str
    rounds: int
    seed: int

    @property
    def dice(self) -> np.random.Generator:
        """A new generator of the play's seed."""
        return np.random.default_rng(self.seed)


@dataclass(frozen=True, slots=True)
class Fault:
    """A row: `play` answers what was tried and which promises were broken."""

    row: int
    what: str
    play: Callable[[Play], Verdict]
    twins: Mapping[str, int]
    """Modules that serve with one promise broken, and the rounds after which that is seen."""
    short: int = 0
    """Rounds in `make test`; 0 leaves the row to `make robustness`."""
    rounds: int = 10
    """Rounds in `make robustness`."""
    long_twins: tuple[str, ...] = ()
    """The twins that are left to `make robustness`."""
    lacks: Callable[[], str] = field(default=lambda: "")
    """Why it cannot be played here; empty when it can."""

    def run(self, play: Play) -> Verdict:
        """Play it; a service that does not start has broken a promise, too."""
        try:
            return self.play(play)
        except NotServingError as error:
            return Verdict(0, broken={"start": 1}, examples=(str(error),))

    def command(self, rounds: int, seed: int) -> str:
        """How to play it again."""
        return f"python -m tests.robustness --rows {self.row} --rounds {rounds} --seed {seed}"


@dataclass
class Scene:
    """A running service with a key for each project, clients and a reader."""

    play: Play
    process: EventsProcess
    history: History
    target: Target
    largest: int
    faults: int = 0
    wanted: Callable[[Name], bool] = field(default=lambda _name: True)
    """Which events the clients send."""
    _clients: list[Client] = field(default_factory=list)
    _reader: Reader | None = None

    def start_traffic(self, clients: int = 3, reads: bool = True) -> None:
        """Let clients send, and a reader read, without rest."""
        for number in range(clients):
            dice = np.random.default_rng([self.play.seed, number])
            projects = list(self.target.keys)
            choices = Choices(number, projects, self.largest, dice, self.wanted)
            self._clients.append(Client(choices, self.target, self.history))
        if reads:
            self._reader = Reader(self.process.lake, self.history, self.play.seed)
            self._reader.start()
        for client in self._clients:
            client.start()

    def stop_traffic(self) -> None:
        """Let every client be served once more, then stop."""
        for client in self._clients:
            client.stop()
        if self._reader is not None:
            self._reader.stop()
            for call in list(self.history.answered)[-LAST_READS:]:
                self._reader.read(call)
        self._clients, self._reader = [], None

    def verdict(self) -> Verdict:
        """Stop everything in order and compare."""
        self.stop_traffic()
        self.process.terminate()
        return judge(self.history, self.process.lake, self.process.rejected, self.faults)


def open_scene(
    play: Play, process: EventsProcess | None = None, largest: int = 400, call_s: float = CALL_S
) -> Scene:
    """Start the service of a play on a new folder."""
    play.folder.mkdir(parents=True, exist_ok=True)
    process = process or EventsProcess(play.folder / "data", play.module)
    url = process.more.get("TOUCHSTONE_DATABASE_URL", "")
    keys = {project: make_key(process.data, project, url) for project in PROJECTS}
    process.start()
    return Scene(play, process, History(), Target(process.address, keys, call_s), largest)


def under_traffic(
    play: Play,
    strike: Callable[[Scene], None],
    scene: Scene | None = None,
    between_s: tuple[float, float] = (0.1, 1.2),
) -> Verdict:
    """Strike `rounds` times at random moments while clients ingest; then compare."""
    scene = scene or open_scene(play, largest=400 if play.rounds < 5 else 2_000)
    dice = play.dice
    try:
        scene.start_traffic()
        for _ in range(play.rounds):
            time.sleep(dice.uniform(*between_s))
            strike(scene)
            scene.faults += 1
        time.sleep(SETTLE_S)
        return scene.verdict()
    finally:
        scene.process.kill()
