"""OpenFeature's tracking API as conversions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from openfeature.evaluation_context import EvaluationContext
from openfeature.event import ProviderEvent, ProviderEventDetails
from openfeature.provider import FeatureProvider
from openfeature.track import TrackingEventDetails

from touchstone_events.events import About, Conversion, Unit
from touchstone_events.sender import EventSender
from touchstone_events.stats import LOG

Emit = Callable[[FeatureProvider, ProviderEvent, ProviderEventDetails], None]


def with_tracking(
    provider: FeatureProvider, sender: EventSender, *, unit_type: str = "user"
) -> FeatureProvider:
    """The provider with a `track`, which OpenFeature hands to providers, that sends a conversion.

    Everything else is the provider's. The conversion's unit is the targeting key, its value the
    details' value, and the other details are its properties; an attribute `currency` is the
    currency. Without a targeting key nothing is sent.
    """
    # It answers to everything that the provider inside answers to, which no type can say.
    return cast(FeatureProvider, _Tracking(provider, sender, unit_type))


class _Tracking:
    """Not a subclass of FeatureProvider: its methods, which do nothing, would hide those inside."""

    def __init__(self, provider: FeatureProvider, sender: EventSender, unit_type: str) -> None:
        self._provider = provider
        self._sender = sender
        self._unit_type = unit_type

    def __getattr__(self, name: str) -> Any:
        return getattr(self._provider, name)

    def attach(self, on_emit: Emit) -> None:
        """Events of the provider inside are events of this one: OpenFeature knows only it."""
        self._provider.attach(
            lambda _, event, details: on_emit(cast(FeatureProvider, self), event, details)
        )

    def track(
        self,
        tracking_event_name: str,
        evaluation_context: EvaluationContext | None = None,
        tracking_event_details: TrackingEventDetails | None = None,
    ) -> None:
        """Called by OpenFeature's `client.track`; the provider inside is told too."""
        try:
            self._convert(tracking_event_name, evaluation_context, tracking_event_details)
        except Exception:  # noqa: BLE001  tracking must not fail a request
            LOG.exception("a tracked event was not made a conversion")
        self._provider.track(tracking_event_name, evaluation_context, tracking_event_details)

    def _convert(
        self,
        name: str,
        context: EvaluationContext | None,
        details: TrackingEventDetails | None,
    ) -> None:
        if context is None or not context.targeting_key:
            return
        attributes = dict(details.attributes) if details is not None else {}
        currency = attributes.pop("currency", "")
        value = details.value if details is not None else None
        conversion = Conversion(name, value, str(currency))
        about = About(properties=attributes) if attributes else About()
        self._sender.track(Unit(self._unit_type, context.targeting_key), conversion, about)
