"""Names that a question asks for and that no touch has: rare, or spelt otherwise."""

from collections.abc import Iterator, Sequence

from services.attribution.application.definition import DirectRule
from services.attribution.application.questions import CutJourneys
from services.attribution.domain.events import Facets
from services.attribution.domain.models import LastNonDirect, Model
from services.attribution.domain.paths.transforms import PathTransform
from services.attribution.domain.sufficiency import Concern, DataWarning
from services.attribution.domain.visibility import DIRECT_CHANNELS, Direct, Window


def unseen_names(cut: CutJourneys, models: Sequence[Model]) -> tuple[DataWarning, ...]:
    """Warn of each channel and interaction that is named and that no touch which was read has.

    The direct channels that are meant where none are named are not asked for.
    """
    found = (*_of_definition(cut), *_of_models(cut, models))
    return tuple(
        DataWarning(
            Concern.UNSEEN_NAME,
            f"{field} is {name!r}, and no touch that was read has it: it changes nothing. See how "
            "it is spelt; channels are meant as the channel grouping gives them.",
            name if "channel" in field else "",
        )
        for field, name in dict.fromkeys(found)
    )


def _of_definition(cut: CutJourneys) -> Iterator[tuple[str, str]]:
    facets = cut.events.touches.facets
    if facets is not None:
        yield from _of_windows(cut.definition.windows, facets)
        yield from _of_direct(cut.definition.direct, facets)
    for number, step in enumerate(cut.definition.transforms):
        if step.transform is PathTransform.FREQUENCY:
            # Names are others from here on.
            return
        for name in step.channels:
            if name not in cut.events.touches.channels:
                yield f"journeys.path_transforms[{number}].channels", name


def _of_windows(windows: Sequence[Window], facets: Facets) -> Iterator[tuple[str, str]]:
    for number, window in enumerate(windows):
        if window.channel and window.channel not in facets.channels:
            yield f"journeys.windows[{number}].channel", window.channel
        if window.interaction and window.interaction not in facets.interactions:
            yield f"journeys.windows[{number}].interaction", window.interaction


def _of_direct(rule: DirectRule, facets: Facets) -> Iterator[tuple[str, str]]:
    if rule.handling is Direct.KEEP or rule.channels == DIRECT_CHANNELS:
        return
    for name in rule.channels:
        if name not in facets.channels:
            yield "journeys.direct.channels", name


def _of_models(cut: CutJourneys, models: Sequence[Model]) -> Iterator[tuple[str, str]]:
    facets = cut.events.touches.facets
    known = cut.events.touches.channels if facets is None else facets.channels
    for model in models:
        if isinstance(model, LastNonDirect) and model.direct != frozenset(DIRECT_CHANNELS):
            yield from (
                ("last_non_direct.channels", name)
                for name in sorted(model.direct)
                if name not in known
            )
