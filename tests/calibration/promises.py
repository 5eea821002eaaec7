"""What the statistics promise, as numbers that a simulation with a fixed seed must find."""

import importlib
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

MODULES = ("frequentist", "sequential", "bayes", "decide", "beside", "credit", "attribution")
"""The modules of this folder that hold PROMISES, in the order of the table."""
SHORT, LONG = 2_000, 20_000
"""Repetitions of a simulation in every test run, and for the published table."""
STANDARD_ERRORS = 4.0
"""How far a short simulation may leave the promised range by chance alone."""


@dataclass(frozen=True, slots=True)
class Promise:
    """A figure that `simulate(repetitions)` must find from `low` to `high`, both included.

    `number` is that of the list of promises. The seed is fixed inside `simulate`, so a run is
    the same each time. With `share` the figure is a share of the repetitions; `high` is where
    its sampling error is largest, and a short run is given that much room. `cost` divides the
    repetitions of a simulation whose every repetition takes long.
    """

    number: int
    what: str
    low: float
    high: float
    simulate: Callable[[int], float]
    share: bool = True
    cost: int = 1

    def repetitions(self, full: bool) -> int:
        return (LONG if full else SHORT) // self.cost

    def room(self, repetitions: int) -> float:
        """How far outside of the range a figure may be by chance: four standard errors."""
        if not self.share:
            return 0.0
        rate = min(max(self.high, 0.0), 0.5)
        return STANDARD_ERRORS * math.sqrt(rate * (1.0 - rate) / repetitions)

    def kept(self, figure: float, room: float = 0.0) -> bool:
        """Whether the figure is in the range, or near enough for the run that found it."""
        return self.low - room <= figure <= self.high + room

    @property
    def allowed(self) -> str:
        """The range as the table prints it."""
        if self.share:
            return f"{self.low:.1%} to {self.high:.1%}"
        return f"{self.low:g} to {self.high:g}"

    def printed(self, figure: float) -> str:
        return f"{figure:.2%}" if self.share else f"{figure:.3g}"


def registry(modules: Iterable[str] = MODULES) -> list[Promise]:
    """All promises of the given modules, in order."""
    found: list[Promise] = []
    for name in modules:
        found += importlib.import_module(f"tests.calibration.{name}").PROMISES
    return found
