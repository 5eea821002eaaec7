"""The intervals of all channel figures of some models, over one draw of the units."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from services.attribution.domain.arrays import Flags, Floats
from services.attribution.domain.bootstrap.intervals import (
    MIN_DEFINED_PART,
    Intervals,
    intervals,
)
from services.attribution.domain.bootstrap.plans import Reader, Tallies, figures
from services.attribution.domain.bootstrap.resample import replicates
from services.attribution.domain.bootstrap.weights import Resampling
from services.attribution.domain.bootstrap.work import seconds_of
from services.attribution.domain.journeys import Journeys
from services.attribution.domain.milestones import JourneyMilestones
from services.attribution.domain.models import Model
from services.attribution.domain.unit_keys import Keys

REPLICATES_BETWEEN = 20
"""How many replicates are read before one asks whether the work is still wanted."""


@dataclass(frozen=True, slots=True)
class TableIntervals:
    """The intervals of one table, each over C + 1 columns: the hidden channels together are last.

    `effects` are those of Markov models, and say nothing of the last column.
    """

    conversions: Intervals
    values: Intervals
    shares: Intervals
    effects: Intervals | None


@dataclass(frozen=True, slots=True)
class Resampled:
    """What replicates say of one model: an entry a table, or none, and then why."""

    replicates: int
    defined: int
    tables: tuple[TableIntervals, ...]
    why_none: str = ""


@dataclass(frozen=True, slots=True)
class DrawnUnits:
    """How units are drawn, the key of the unit of each journey, and the seconds of a model.

    `alive` is called now and then, and may end the work by raising.
    """

    resampling: Resampling
    keys: Keys
    most_s: float
    alive: Callable[[], None] = lambda: None


def resample_models(
    models: Sequence[Model],
    journeys: Journeys,
    milestones: JourneyMilestones | None,
    units: DrawnUnits,
    hidden: Flags,
) -> tuple[Resampled, ...]:
    """Return what the replicates say of each model, in their order.

    The figures of the channels that are `hidden` (C,) are added up inside each replicate.
    """
    tallies = Tallies(journeys, milestones)
    why = [_why_not(model, journeys, units) for model in models]
    readers = [
        None if reason else tallies.reader(model) for model, reason in zip(models, why, strict=True)
    ]
    drawn = _draw(tallies, readers, units, hidden.astype(np.float64))
    return tuple(
        Resampled(units.resampling.replicates, 0, (), reason)
        if reason
        else _resampled(tables, units.resampling)
        for reason, tables in zip(why, drawn, strict=True)
    )


def _draw(
    tallies: Tallies, readers: Sequence[Reader | None], units: DrawnUnits, hidden: Floats
) -> list[list[list[Floats | None]]]:
    """The figures by model, table and replicate."""
    drawn: list[list[list[Floats | None]]] = [[] for _ in readers]
    if not any(readers):
        return drawn
    every = replicates(tallies.rows, units.keys, units.resampling)
    for number, sums in enumerate(every):
        if number % REPLICATES_BETWEEN == 0:
            units.alive()
        conversions, _ = tallies.size(sums)
        for reader, tables in zip(readers, drawn, strict=True):
            if reader is None:
                continue
            found = reader(sums)
            tables.extend([] for _ in range(len(found) - len(tables)))
            for table, one in zip(tables, found, strict=True):
                table.append(figures(one, conversions, hidden))
    return drawn


def _resampled(drawn: list[list[Floats | None]], resampling: Resampling) -> Resampled:
    found = [intervals(table, resampling) for table in drawn]
    known = [each for each in found if each is not None]
    if len(known) < len(found):
        defined = min(sum(figure is not None for figure in table) for table in drawn)
        why = (
            f"in {defined} of {resampling.replicates} replicates the model has figures; intervals "
            f"need {MIN_DEFINED_PART:.0%} of them. Report a longer time range."
        )
        return Resampled(resampling.replicates, defined, (), why)
    return Resampled(
        resampling.replicates,
        min(each.defined for each in known),
        tuple(map(_table, known)),
    )


def _table(found: Intervals) -> TableIntervals:
    def row(place: int) -> Intervals:
        return Intervals(
            found.std_err[place],
            found.ci_low[place],
            found.ci_high[place],
            found.defined,
            found.replicates,
        )

    return TableIntervals(row(0), row(1), row(2), row(3) if len(found.ci_low) > 3 else None)


def _why_not(model: Model, journeys: Journeys, units: DrawnUnits) -> str:
    """Why the model is not resampled; empty where it is."""
    seconds = seconds_of(model, journeys)
    count = units.resampling.replicates
    if seconds * count > units.most_s:
        return (
            f"a replicate takes about {seconds:.1g} s, and {count} of them more than the "
            f"{units.most_s:g} s that one model may take. Ask for fewer replicates, a lower order "
            "or fewer rounds, or group rare channels."
        )
    return ""
