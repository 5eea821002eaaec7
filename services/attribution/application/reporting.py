"""What is told beside figures: intervals, fits on held-out units, and channels with few units."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from services.attribution.application.questions import CutJourneys
from services.attribution.domain.bootstrap.weights import Resampling
from services.attribution.domain.data_driven import require_possible
from services.attribution.domain.held_out.models import ModelFit, Observation, fit_models
from services.attribution.domain.held_out.split import Split, split_by_unit
from services.attribution.domain.journeys import Journeys
from services.attribution.domain.markov import OrderChoice, largest_order, select_order
from services.attribution.domain.models import (
    AskedModel,
    AutomaticMarkov,
    DataModel,
    Markov,
    Model,
)
from services.attribution.domain.paths.table import tabulate_paths
from services.attribution.domain.reported import ReportedTable
from services.attribution.domain.thinness import (
    ThinFigure,
    no_interval,
    thin_fits,
    thin_intervals,
)
from services.attribution.domain.unit_keys import Keys, keys_of_names, keys_of_numbers
from shared.errors import fields_of, invalid

CALL_S = 5.0
REPORT_S = 120.0


@dataclass(frozen=True, slots=True)
class HeldOutUnits:
    """The part of units that models are judged by, and what decides who is among them."""

    part: float = 0.2
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Reporting:
    """What is told beside figures; None is nothing.

    `min_units` is the least number of units of a channel that is told of alone. `most_s` is about
    how many seconds the replicates of one model may take.
    """

    resampling: Resampling | None = None
    held_out: HeldOutUnits | None = None
    min_units: int = 1
    most_s: float = CALL_S


PLAIN = Reporting()


@dataclass(frozen=True, slots=True)
class OrderTaken:
    """The order that was taken, by which journeys, and why no higher one was tried."""

    choice: OrderChoice
    why_fewer: str = ""


@dataclass(frozen=True, slots=True)
class Settled:
    """The models to compute, each once, and how the orders of automatic ones were chosen."""

    models: tuple[Model, ...]
    orders: dict[Model, OrderTaken] = field(default_factory=dict)


class Units:
    """The units of some journeys, by keys that depend on their ids alone."""

    def __init__(self, journeys: Journeys, name: Callable[[], Keys], held: HeldOutUnits) -> None:
        self._journeys, self._name, self._held = journeys, name, held

    @cached_property
    def keys(self) -> Keys:
        """The key of the unit of each journey."""
        return self._name()

    @cached_property
    def split(self) -> Split:
        """The journeys to fit to, and those held out."""
        salt = f"held-out {self._held.seed}"
        return split_by_unit(self._journeys, self.keys, salt, self._held.part)


def named_units(cut: CutJourneys, reporting: Reporting) -> Units:
    """The units of journeys of the event log, by their ids."""

    def keys() -> Keys:
        numbers, place = np.unique(cut.journeys.units, return_inverse=True)
        found: Keys = keys_of_names(cut.events.units.at(numbers))[place]
        return found

    return Units(cut.journeys, keys, reporting.held_out or HeldOutUnits())


def numbered_units(journeys: Journeys, reporting: Reporting) -> Units:
    """The units of journeys that have none: each journey counts as one.

    They are numbered by path, outcome and value, so that the order of rows plays no part.
    """

    def keys() -> Keys:
        values = np.zeros(len(journeys))
        values[: journeys.converting] = journeys.values
        paths = tabulate_paths(journeys).of_journey
        number = np.zeros(len(journeys), dtype=np.int64)
        number[np.lexsort((values, journeys.converted, paths))] = np.arange(len(journeys))
        return keys_of_numbers(number)

    return Units(journeys, keys, reporting.held_out or HeldOutUnits())


def settle(
    asked: Sequence[AskedModel], journeys: Journeys, units: Units, path: str = "models[{}]"
) -> Settled:
    """Choose the orders of automatic models by held-out journeys, and leave out repetitions.

    INVALID_ARGUMENT for a model that the channels are too many for; `path` is where the request
    has it, by its number.
    """
    models: list[Model] = []
    orders: dict[Model, OrderTaken] = {}
    for number, model in enumerate(asked):
        with fields_of(path.format(number)):
            _require_possible(model, journeys)
        if isinstance(model, AutomaticMarkov):
            taken = _order(model, journeys, units)
            chosen = Markov(model.ignore_non_converting, taken.choice.order)
            orders[chosen] = taken
            models.append(chosen)
        else:
            models.append(model)
    return Settled(tuple(dict.fromkeys(models)), orders)


def _require_possible(model: AskedModel, journeys: Journeys) -> None:
    channels = len(journeys.channels)
    if isinstance(model, Markov) and model.order > largest_order(channels):
        allowed = f"1 to {largest_order(channels)} over {channels} channels"
        raise invalid("markov.order", model.order, allowed)
    if isinstance(model, DataModel):
        require_possible(model, journeys)


def _order(model: AutomaticMarkov, journeys: Journeys, units: Units) -> OrderTaken:
    highest = min(model.highest_order, largest_order(len(journeys.channels)))
    why = ""
    if highest < model.highest_order:
        why = f"{len(journeys.channels)} channels can be told apart up to order {highest}."
    training, held_out = units.split.training, units.split.held_out
    if not len(training) or not len(held_out):
        nothing = "no journeys were left to fit to, or none were held out."
        return OrderTaken(OrderChoice((), 1), nothing)
    return OrderTaken(select_order(training, held_out, highest), why)


def fitted(
    models: Sequence[Model],
    units: Units,
    observed: Observation,
    reporting: Reporting,
) -> tuple[ModelFit, ...]:
    """How well each model predicts; nothing where nobody is held out."""
    if reporting.held_out is None:
        return ()
    return fit_models(models, units.split, observed, reporting.min_units)


def thin_figures(
    tables: Sequence[ReportedTable], fits: Sequence[ModelFit]
) -> tuple[ThinFigure, ...]:
    """Say which of the figures are too thin to lean on."""
    thin: list[ThinFigure] = []
    for told in tables:
        name = told.table.output.value
        if told.resampled is not None and told.resampled.why_none:
            thin.append(no_interval(name, told.resampled.why_none))
        thin.extend(
            thin_intervals(
                name,
                [
                    (row.totals.channel, row.totals.conversions, *row.spans.conversions)
                    for row in told.channels
                    if row.spans is not None
                ],
            )
        )
    thin.extend(thin_fits([each.fit for each in fits if each.fit is not None]))
    return tuple(thin)
