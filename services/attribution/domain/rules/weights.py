"""The weights of touches under any rule model."""

import numpy as np

from services.attribution.domain.arrays import Flags, Floats
from services.attribution.domain.journeys import Journeys
from services.attribution.domain.milestones import JourneyMilestones, full_path
from services.attribution.domain.models import (
    ByPosition,
    Custom,
    FirstTouch,
    FullPath,
    LastNonDirect,
    LastTouch,
    Linear,
    LinearOver,
    Participation,
    Position,
    RankDecay,
    RuleModel,
    SameTouch,
    TimeDecay,
)
from services.attribution.domain.rules import age, channel, position
from services.attribution.domain.visibility import direct_of
from shared.errors import invalid


def touch_weights(
    model: RuleModel, journeys: Journeys, milestones: JourneyMilestones | None = None
) -> Floats:
    """Return the weight of each touch of the converting journeys under `model`.

    The weights of a journey sum to 1, but under SameTouch (1 or 0) and Participation (the number
    of its channels). FullPath needs `milestones` and is INVALID_ARGUMENT without them.
    """
    match model:
        case LastNonDirect() | Participation() | Linear(LinearOver.CHANNELS | LinearOver.RUNS):
            return _by_channel(model, journeys)
        case TimeDecay() | SameTouch():
            return _by_age(model, journeys)
        case FullPath():
            if milestones is None:
                raise invalid("full_path.milestones", [*model.names], "milestones in the journeys")
            return full_path(journeys.converting_offsets, model, milestones)
        case Custom():
            return position.position(journeys.converting_offsets, model.position)
        case _:
            return _by_position(model, journeys)


def _by_channel(model: LastNonDirect | Participation | Linear, journeys: Journeys) -> Floats:
    offsets, codes = journeys.converting_offsets, journeys.converting_codes
    channels = len(journeys.channels)
    match model:
        case LastNonDirect():
            return channel.last_non_direct(offsets, _direct(model, journeys))
        case Participation():
            return channel.participation(offsets, codes, channels)
        case Linear(LinearOver.CHANNELS):
            return channel.linear_over_channels(offsets, codes, channels)
        case _:
            return channel.linear_over_runs(offsets, codes)


def _direct(model: LastNonDirect, journeys: Journeys) -> Flags:
    """Whether each touch came through a direct channel, whatever it is credited as."""
    codes = journeys.converting_codes
    if journeys.facets is not None:
        flags: Flags = direct_of(journeys.facets, model.direct)[journeys.touch_rows[: len(codes)]]
        return flags
    named = np.array([name in model.direct for name in journeys.channels], dtype=np.bool_)
    direct: Flags = named[codes]
    return direct


def _by_age(model: TimeDecay | SameTouch, journeys: Journeys) -> Floats:
    offsets, times = journeys.converting_offsets, journeys.converting_times
    if isinstance(model, TimeDecay):
        return age.time_decay(offsets, times, model, journeys.conversion_times)
    return age.same_touch(offsets, times, model, journeys.conversion_times)


def _by_position(
    model: FirstTouch | LastTouch | Linear | Position | RankDecay | ByPosition, journeys: Journeys
) -> Floats:
    offsets = journeys.converting_offsets
    match model:
        case FirstTouch():
            return position.first_touch(offsets)
        case LastTouch():
            return position.last_touch(offsets)
        case Linear():
            return position.linear(offsets)
        case Position():
            return position.position(offsets, model)
        case RankDecay():
            return position.rank_decay(offsets)
        case ByPosition():
            return position.by_position(offsets, model)
