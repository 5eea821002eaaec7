"""Warnings that the data are too few, or not of the kind, to lean on.

The first two thresholds follow the guidance of Google Analytics 4 for data-driven attribution
(about 200 conversions and 2,000 interactions); the others are Touchstone's own.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np

from services.attribution.domain.arrays import Flags
from services.attribution.domain.journey_statistics import JourneyStatistics
from services.attribution.domain.reported import HiddenChannels
from services.attribution.domain.thinness import MOST_NAMED, ThinFigure, worst

MIN_CONVERSIONS = 200
MIN_TOUCHES = 2_000
MIN_CONVERTING_JOURNEYS_PER_CHANNEL = 30
MAX_STATES_PER_CONVERSION = 0.1


class Concern(Enum):
    """What a warning is about."""

    FEW_CONVERSIONS = "few_conversions"
    FEW_TOUCHES = "few_touches"
    RARE_CHANNEL = "rare_channel"
    NEVER_CONVERTS = "never_converts"
    NO_NON_CONVERTING = "no_non_converting"
    MIXED_CURRENCIES = "mixed_currencies"
    JOURNEYS_TRUNCATED = "journeys_truncated"
    MANY_STATES = "many_states"
    CHANNELS_SUPPRESSED = "channels_suppressed"
    NO_INTERVAL = "no_interval"
    WIDE_INTERVAL = "wide_interval"
    FEW_HELD_OUT = "few_held_out"
    LEARNED_NOTHING = "learned_nothing"
    MISCALIBRATED = "miscalibrated"
    UNSEEN_NAME = "unseen_name"


@dataclass(frozen=True, slots=True)
class DataWarning:
    """One concern, what it means for the reader, and the channel and model that it is about.

    An empty channel or model is all of them.
    """

    concern: Concern
    message: str
    channel: str = ""
    model: str = ""


def data_warnings(
    statistics: JourneyStatistics,
    currencies: tuple[str, ...] = (),
    hidden: HiddenChannels | None = None,
) -> tuple[DataWarning, ...]:
    """Return the concerns about the whole, then those about channels in the order of names.

    `currencies` are those of the values and costs that were added. Channels that are `hidden` are
    not named. More channels of one concern than `MOST_NAMED` are one warning, which counts them.
    """
    warnings = [*_about_size(statistics), *_about_shape(statistics)]
    if len(currencies) > 1:
        warnings.append(
            DataWarning(
                Concern.MIXED_CURRENCIES,
                f"amounts in {', '.join(currencies)} were added as if they were one currency. "
                "Convert them to one currency before they are logged.",
            )
        )
    told = np.ones(len(statistics.channels), dtype=np.bool_)
    if hidden is not None and hidden.hidden.any():
        told = ~hidden.hidden
        warnings.append(_about_hidden(hidden))
    return (*warnings, *_about_channels(statistics, told))


def thin_warnings(thin: Iterable[ThinFigure]) -> tuple[DataWarning, ...]:
    """Return what makes figures thin as concerns, in their order."""
    return tuple(
        DataWarning(Concern(figure.reason.value), figure.message, figure.channel, figure.model)
        for figure in thin
    )


def _about_hidden(hidden: HiddenChannels) -> DataWarning:
    count = int(hidden.hidden.sum())
    what = "nothing is said of them" if hidden.withheld else "they are told of together"
    return DataWarning(
        Concern.CHANNELS_SUPPRESSED,
        f"{count} channels are not told of alone, as fewer than {hidden.min_units} units met one, "
        f"or it would give another away; {what}.",
    )


def _about_size(statistics: JourneyStatistics) -> list[DataWarning]:
    conversions = statistics.counts.converting
    touches = int(statistics.by_channel.touches.sum())
    active = int((statistics.by_channel.journeys > 0).sum())
    warnings = []
    if conversions < MIN_CONVERSIONS:
        warnings.append(
            DataWarning(
                Concern.FEW_CONVERSIONS,
                f"{conversions} conversions saw a touch; below {MIN_CONVERSIONS} the credits "
                "are mostly noise. Report a longer time range.",
            )
        )
    if touches < MIN_TOUCHES:
        warnings.append(
            DataWarning(
                Concern.FEW_TOUCHES,
                f"{touches} touches; below {MIN_TOUCHES} the credits are mostly noise. "
                "Report a longer time range.",
            )
        )
    if active > MAX_STATES_PER_CONVERSION * conversions:
        warnings.append(
            DataWarning(
                Concern.MANY_STATES,
                f"{active} channels for {conversions} conversions: a Markov model has more than "
                f"{MAX_STATES_PER_CONVERSION} states a conversion. Group rare channels.",
            )
        )
    return warnings


def _about_shape(statistics: JourneyStatistics) -> list[DataWarning]:
    counts = statistics.counts
    warnings = []
    if counts.journeys and not counts.non_converting:
        warnings.append(
            DataWarning(
                Concern.NO_NON_CONVERTING,
                f"all {counts.journeys} journeys converted, so a removal effect cannot see what "
                "did not work. Log the touches of units that did not convert too.",
            )
        )
    if counts.truncated:
        warnings.append(
            DataWarning(
                Concern.JOURNEYS_TRUNCATED,
                f"{counts.truncated} journeys were longer than the limit and keep their most "
                "recent touches. Look for units that are not persons.",
            )
        )
    return warnings


def _about_channels(statistics: JourneyStatistics, told: Flags) -> list[DataWarning]:
    journeys, converting = statistics.by_channel.journeys, statistics.by_channel.converting
    never = np.flatnonzero(told & (journeys > 0) & (converting == 0))
    rare = np.flatnonzero(
        told & (converting > 0) & (converting < MIN_CONVERTING_JOURNEYS_PER_CHANNEL)
    )
    few = len(never) <= MOST_NAMED, len(rare) <= MOST_NAMED
    names = statistics.channels
    alone = [
        *(_never(names[at], int(journeys[at])) for at in never.tolist() if few[0]),
        *(_rare(names[at], int(converting[at])) for at in rare.tolist() if few[1]),
    ]
    together = []
    if not few[0]:
        most = never[np.argsort(-journeys[never], kind="stable")]
        together.append(_all_never([(names[at], int(journeys[at])) for at in most.tolist()]))
    if not few[1]:
        least = rare[np.argsort(converting[rare], kind="stable")]
        together.append(_all_rare([(names[at], int(converting[at])) for at in least.tolist()]))
    return [*sorted(alone, key=lambda warning: warning.channel), *together]


def _never(channel: str, journeys: int) -> DataWarning:
    return DataWarning(
        Concern.NEVER_CONVERTS,
        f"channel {channel!r} is in {journeys} journeys and none converted: it is part of no "
        "conversion that could be credited to it, which does not prove it has no effect.",
        channel,
    )


def _all_never(counts: Sequence[tuple[str, int]]) -> DataWarning:
    return DataWarning(
        Concern.NEVER_CONVERTS,
        f"{len(counts)} channels are in journeys none of which converted, with the most journeys "
        f"{worst(counts)}: they are part of no conversion that could be credited to them, which "
        "does not prove they have no effect. Group rare channels or report a longer time range.",
    )


def _rare(channel: str, converting: int) -> DataWarning:
    return DataWarning(
        Concern.RARE_CHANNEL,
        f"channel {channel!r} is in {converting} converting journeys; below "
        f"{MIN_CONVERTING_JOURNEYS_PER_CHANNEL} its credit is mostly noise.",
        channel,
    )


def _all_rare(counts: Sequence[tuple[str, int]]) -> DataWarning:
    return DataWarning(
        Concern.RARE_CHANNEL,
        f"{len(counts)} channels are in fewer than {MIN_CONVERTING_JOURNEYS_PER_CHANNEL} "
        f"converting journeys each, with the fewest {worst(counts)}: their credit is mostly noise. "
        "Group rare channels or report a longer time range.",
    )
