"""Names that no touch has are said, and those that nobody gave are not asked for."""

import datetime as dt
from dataclasses import replace

from services.attribution.adapters.memory import ConversionRow, MemoryJourneyLog, TouchRow
from services.attribution.application.definition import DirectRule, JourneyDefinition
from services.attribution.application.get_attribution import GetAttribution, get_attribution
from services.attribution.application.questions import Question
from services.attribution.domain.journeys import DAY_US
from services.attribution.domain.models import LastNonDirect, Model
from services.attribution.domain.paths.transforms import PathTransform, TransformStep
from services.attribution.domain.sufficiency import Concern
from services.attribution.domain.visibility import Direct, Window
from services.attribution.limits import AttributionLimits
from shared.identity.identity import Identity
from shared.identity.log import empty_log
from shared.identity.policy import IdentityPolicy, StoredPolicy

LOG = MemoryJourneyLog(
    [
        TouchRow("t1", "acme", unit_id="a", time_us=1, channel="mail", interaction="click"),
        TouchRow("t2", "acme", unit_id="a", time_us=2, channel="direct"),
    ],
    [ConversionRow("c1", "acme", unit_id="a", time_us=3, event_name="buy")],
    dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
    Identity(empty_log(), StoredPolicy(IdentityPolicy(()), 1)),
)
BUY = JourneyDefinition("buy")


def unseen(definition: JourneyDefinition, *models: Model) -> list[tuple[str, str]]:
    """The fields and the channels of the warnings."""
    asked = GetAttribution(Question("acme", definition, models))
    warnings = get_attribution(asked, LOG, AttributionLimits()).warnings
    found = [warning for warning in warnings if warning.concern is Concern.UNSEEN_NAME]
    return [(warning.message.partition(" is ")[0], warning.channel) for warning in found]


def test_windows_name_channels_and_interactions() -> None:
    windows = (Window("mail", "click", DAY_US), Window("mali", "", DAY_US), Window("", "clic", 1))
    assert unseen(replace(BUY, windows=windows)) == [
        ("journeys.windows[1].channel", "mali"),
        ("journeys.windows[2].interaction", ""),
    ]


def test_direct_channels_that_were_given_and_not_those_that_are_meant() -> None:
    assert unseen(replace(BUY, direct=DirectRule(Direct.DROP))) == []
    assert unseen(replace(BUY, direct=DirectRule(Direct.DROP, ("direct", "typed")))) == [
        ("journeys.direct.channels", "typed")
    ]
    assert unseen(replace(BUY, direct=DirectRule(Direct.KEEP, ("typed",)))) == []
    assert unseen(BUY, LastNonDirect(frozenset({"direct", "typed"}))) == [
        ("last_non_direct.channels", "typed")
    ]
    assert unseen(BUY, LastNonDirect(frozenset({"(direct)", "Direct", "direct"}))) == []


def test_transforms_name_channels_as_they_are_then() -> None:
    remove = TransformStep(PathTransform.REMOVE_IF_NOT_ALL, ("mail(1)", "post"))
    count = TransformStep(PathTransform.FREQUENCY)
    assert unseen(replace(BUY, transforms=(remove,))) == [
        ("journeys.path_transforms[0].channels", "mail(1)"),
        ("journeys.path_transforms[0].channels", "post"),
    ]
    assert unseen(replace(BUY, transforms=(count, remove))) == []
