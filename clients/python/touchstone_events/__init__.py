"""Sends exposures, conversions, touchpoints and identity links to Touchstone in the background.

    with EventSender(Service("127.0.0.1:7702", key="...")) as events:
        events.conversion(Unit("user", "u1"), "purchase", value=19.99, currency="EUR")

`ExposureHook` turns OpenFeature evaluations into exposures, `with_tracking` its tracking calls
into conversions.
"""

from touchstone_events.events import (
    About,
    Conversion,
    Exposure,
    Identify,
    Touchpoint,
    Unit,
)
from touchstone_events.hook import ExposureHook, ExposureRule
from touchstone_events.sender import EventSender
from touchstone_events.settings import RETRYABLE, Service, Settings, Tls
from touchstone_events.stats import Problem, Stats
from touchstone_events.tracking import with_tracking

__all__ = [
    "RETRYABLE",
    "About",
    "Conversion",
    "EventSender",
    "Exposure",
    "ExposureHook",
    "ExposureRule",
    "Identify",
    "Problem",
    "Service",
    "Settings",
    "Stats",
    "Tls",
    "Touchpoint",
    "Unit",
    "with_tracking",
]
