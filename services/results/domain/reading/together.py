"""Ask for readings one metric at a time, and compute those of all metrics at once.

What reads a metric is a generator: it yields what it wants to know and is sent the answer. Wishes
of one kind are answered by one call over all metrics, which costs little more than one of a single
metric. What fails for one metric fails for that metric alone.
"""

from collections.abc import Generator, Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, Self, TypeAlias, TypeVar

import numpy as np
from touchstone_statistics.contrast import Contrast
from touchstone_statistics.gaps import FloatArray
from touchstone_statistics.inference import Reading
from touchstone_statistics.interval import Side

from services.results.domain.reading.joining import concatenated, pieces, repeated
from services.results.domain.reading.rules import Boundaries, Rule

T = TypeVar("T")


class Wanted(Protocol):
    """Something that can be computed for many at once."""

    @property
    def kind(self) -> Hashable:
        """Equal for what can be computed together."""
        ...

    def answers(self, alike: Sequence[Self], /) -> Sequence[Any]:
        """The answer for each of several of one kind."""
        ...


Asking: TypeAlias = Generator[Wanted, Any, T]


@dataclass(frozen=True, slots=True, eq=False)
class ToRead:
    """The reading of a contrast by a rule; see `Rule.read`."""

    rule: Rule
    contrast: Contrast
    boundaries: Boundaries
    level: FloatArray | float
    side: Side = Side.TWO_SIDED

    @property
    def kind(self) -> Hashable:
        """See Wanted."""
        own = self.contrast.freedom is not None
        inner = self.contrast.difference.shape[1:]
        return (ToRead, self.rule, self.side, bool(self.boundaries), inner, own)

    @staticmethod
    def answers(alike: Sequence["ToRead"]) -> list[Reading]:
        """See Wanted."""
        shapes = [one.contrast.difference.shape for one in alike]
        rule = repeated(alike[0].rule, len(alike))
        boundaries = [taken for one in alike for taken in one.boundaries]
        levels = (np.broadcast_to(one.level, s) for one, s in zip(alike, shapes, strict=True))
        whole = concatenated([one.contrast for one in alike])
        reading = rule.read(whole, boundaries, np.concatenate(list(levels)), alike[0].side)
        return pieces(reading, [shape[0] for shape in shapes])


def answered(asking: Sequence[Asking[T]]) -> list[T | Exception]:
    """What each comes to, or why it does not."""
    found: list[Any] = [None] * len(asking)
    waiting: dict[int, Wanted] = {}

    def advance(place: int, step: Any) -> None:
        try:
            waiting[place] = step()
        except StopIteration as end:
            found[place] = end.value
        except Exception as error:  # noqa: BLE001  whoever asked says what it means
            found[place] = error

    for place, one in enumerate(asking):
        advance(place, partial(next, one))
    while waiting:
        kinds: dict[Hashable, list[int]] = {}
        for place, wanted in waiting.items():
            kinds.setdefault(wanted.kind, []).append(place)
        wishes = dict(waiting)
        waiting.clear()
        for places in kinds.values():
            answers = _answers([wishes[place] for place in places])
            for place, answer in zip(places, answers, strict=True):
                failed = isinstance(answer, Exception)
                go_on = asking[place].throw if failed else asking[place].send
                advance(place, partial(go_on, answer))
    return found


def every(asking: Sequence[Asking[T]]) -> list[T]:
    """What each comes to; raises what any of them does."""
    found = answered(asking)
    for one in found:
        if isinstance(one, Exception):
            raise one
    return [one for one in found if not isinstance(one, Exception)]


def _answers(alike: Sequence[Any]) -> Sequence[Any]:
    """An answer or an exception for each: where all together fail, each is tried by itself."""
    try:
        return alike[0].answers(alike)  # type: ignore[no-any-return]
    except Exception as error:  # noqa: BLE001  it is raised where the answer is awaited
        if len(alike) == 1:
            return [error]
    return [answer for one in alike for answer in _answers([one])]
