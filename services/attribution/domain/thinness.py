"""What makes a figure of a data-driven model too thin to lean on, said in words.

The thresholds are Touchstone's own. Warnings about the amount of data stand in `sufficiency`.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from services.attribution.domain.held_out.fit import HeldOutFit

MAX_STATES_PER_CONVERSION = 0.1
WIDE_PART = 0.5
MOST_NAMED = 10
"""More channels of one concern than these are counted in one warning, and the worst named."""
WORST_NAMED = 5
MIN_HELD_OUT_CONVERSIONS = 30
CALIBRATED_SLOPE = (0.5, 2.0)


class Thin(Enum):
    """Why a figure is thin."""

    NO_INTERVAL = "no_interval"
    WIDE_INTERVAL = "wide_interval"
    MANY_STATES = "many_states"
    FEW_HELD_OUT = "few_held_out"
    LEARNED_NOTHING = "learned_nothing"
    MISCALIBRATED = "miscalibrated"


@dataclass(frozen=True, slots=True)
class ThinFigure:
    """One reason, the model and the channel (empty: all) it is about, and what it means."""

    reason: Thin
    model: str
    message: str
    channel: str = ""


def thin_intervals(
    model: str, rows: Iterable[tuple[str, float, float, float]]
) -> tuple[ThinFigure, ...]:
    """Name the channels whose interval reaches further than half of their figure to a side.

    `rows` are the channel, its credit and the ends of the interval; a channel without credit and
    without spread has never been seen to convert, of which `sufficiency` warns. More than ten such
    channels are counted in one warning that names the worst.
    """
    wide = [
        (channel, figure, low, high)
        for channel, figure, low, high in rows
        if max(figure - low, high - figure) > WIDE_PART * abs(figure)
    ]
    if len(wide) <= MOST_NAMED:
        return tuple(_wide(model, *each) for each in wide)
    furthest = sorted(wide, key=_reach, reverse=True)
    named = [
        (name, f"{figure:.4g} of {low:.4g} to {high:.4g}") for name, figure, low, high in furthest
    ]
    message = (
        f"{len(wide)} channels have intervals that reach further than {WIDE_PART:.0%} of their "
        f"figure, the furthest {worst(named)}. Group rare channels or report a longer time range."
    )
    return (ThinFigure(Thin.WIDE_INTERVAL, model, message),)


def worst(channels: Sequence[tuple[str, object]]) -> str:
    """Name the first few of many channels, each with what is said of it."""
    return ", ".join(f"{channel!r} ({said})" for channel, said in channels[:WORST_NAMED])


def _reach(row: tuple[str, float, float, float]) -> float:
    """How far the interval reaches, as a part of the figure; of no figure it is infinitely far."""
    _, figure, low, high = row
    return max(figure - low, high - figure) / abs(figure) if figure else math.inf


def _wide(model: str, channel: str, figure: float, low: float, high: float) -> ThinFigure:
    message = (
        f"channel {channel!r} has {figure:.4g}, between {low:.4g} and {high:.4g}: the interval "
        f"reaches further than {WIDE_PART:.0%} of the figure. Group rare channels or report a "
        "longer time range."
    )
    return ThinFigure(Thin.WIDE_INTERVAL, model, message, channel)


def no_interval(model: str, why: str) -> ThinFigure:
    """Say that a model has no intervals, though they were asked for, and why."""
    return ThinFigure(Thin.NO_INTERVAL, model, f"no interval: {why}")


def thin_states(model: str, states: int, conversions: int) -> tuple[ThinFigure, ...]:
    """Warn of more than one state of a Markov chain for ten conversions."""
    if states <= MAX_STATES_PER_CONVERSION * conversions:
        return ()
    message = (
        f"{states} states for {conversions} conversions, more than {MAX_STATES_PER_CONVERSION} "
        "a conversion. Take a lower order, the one that held-out journeys choose."
    )
    return (ThinFigure(Thin.MANY_STATES, model, message),)


def thin_fits(fits: Sequence[HeldOutFit]) -> tuple[ThinFigure, ...]:
    """Warn of models that held-out journeys do not bear out, or cannot."""
    thin = []
    for fit in fits:
        if fit.conversions < MIN_HELD_OUT_CONVERSIONS:
            message = (
                f"{fit.conversions} held-out journeys converted; below {MIN_HELD_OUT_CONVERSIONS} "
                "they do not tell models apart."
            )
            thin.append(ThinFigure(Thin.FEW_HELD_OUT, fit.model, message))
        elif fit.log_loss >= fit.base_log_loss:
            message = (
                f"its loss on held-out journeys, {fit.log_loss:.4g}, is not below "
                f"{fit.base_log_loss:.4g}, that of saying the same of every journey."
            )
            thin.append(ThinFigure(Thin.LEARNED_NOTHING, fit.model, message))
        elif fit.slope is not None and not CALIBRATED_SLOPE[0] <= fit.slope <= CALIBRATED_SLOPE[1]:
            message = (
                f"the slope of its calibration is {fit.slope:.3g}, where 1 is calibrated: "
                "its chances are not to be read as such."
            )
            thin.append(ThinFigure(Thin.MISCALIBRATED, fit.model, message))
    return tuple(thin)
