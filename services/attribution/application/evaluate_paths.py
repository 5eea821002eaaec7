"""Credit channels over journeys that are given as aggregated paths."""

from dataclasses import dataclass

from services.attribution.application.get_attribution import (
    WHILE_WANTED,
    Attribution,
    Computed,
    told_attribution,
)
from services.attribution.application.reporting import (
    PLAIN,
    Reporting,
    numbered_units,
    settle,
)
from services.attribution.domain.held_out.models import Observation
from services.attribution.domain.journey_statistics import measure
from services.attribution.domain.journeys import BEGINNING_OF_TIME_US
from services.attribution.domain.models import (
    EVERY_MODEL,
    AdditiveHazard,
    AskedModel,
    FullPath,
    SameTouch,
    TimeDecay,
)
from services.attribution.domain.paths.aggregated import PathColumns, read_paths
from services.attribution.domain.paths.transforms import TransformStep, transformed
from services.attribution.limits import AttributionLimits
from shared.errors import invalid, limit_exceeded

# What paths do not tell: when touches happened, and what happened between them.
_UNTOLD = (TimeDecay, SameTouch, FullPath, AdditiveHazard)
MOST_TOUCHES = 2_000_000


@dataclass(frozen=True, slots=True)
class EvaluatePaths:
    """The paths, what stands between their channels, and the models; none means every one.

    `reporting` says what to tell beside the figures, `transforms` what is done to paths first.
    """

    columns: PathColumns
    separator: str = ">"
    models: tuple[AskedModel, ...] = ()
    reporting: Reporting = PLAIN
    transforms: tuple[TransformStep, ...] = ()


def evaluate_paths(command: EvaluatePaths, limits: AttributionLimits) -> Attribution:
    """Answer by every model asked for; INVALID_ARGUMENT for one that needs more than paths."""
    asked = command.models or tuple(m for m in EVERY_MODEL if not isinstance(m, _UNTOLD))
    for number, model in enumerate(asked):
        if isinstance(model, _UNTOLD):
            allowed = "a model without times or milestones: paths do not tell them"
            raise invalid(f"models[{number}]", type(model).__name__, allowed)
    read = read_paths(command.columns, command.separator, MOST_TOUCHES)
    paths = transformed(read.touches, read.journeys, command.transforms)
    for channels in (read.journeys.channels, paths.touches.channels):
        if len(channels) > limits.max_channels:
            raise limit_exceeded("distinct channels", len(channels), limits.max_channels)
    units = numbered_units(paths.journeys, command.reporting)
    settled = settle(asked, paths.journeys, units)
    statistics = measure(
        paths.touches,
        paths.journeys,
        settled.models,
        BEGINNING_OF_TIME_US,
        whole=paths.whole,
    )
    computed = Computed(
        paths.journeys,
        statistics,
        settled.models,
        units,
        Observation(0, 0),
        orders=settled.orders,
    )
    return told_attribution(computed, command.reporting, WHILE_WANTED, ("", None, ""))
