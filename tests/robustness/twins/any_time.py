"""The events service that takes an event of any time."""

from __future__ import annotations

from dataclasses import dataclass

from services.events.domain.limits import Limits
from tests.robustness.twins.clock import step_clock
from tests.robustness.twins.replaced import replace, serve


@dataclass(frozen=True, slots=True)
class NoLead(Limits):
    """A thousand years ahead are fine."""

    event_lead_s: int = 1_000 * 366 * 86_400


if __name__ == "__main__":
    step_clock()
    replace("services.events.composition.core", "Limits", NoLead)
    serve()
