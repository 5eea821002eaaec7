"""Small valid values that a test varies."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from touchstone_assignment.bucketing import HashVersion

from services.assignment.domain.experiment import (
    AssignmentSource,
    Design,
    Experiment,
    State,
    Variant,
)
from services.assignment.domain.layer import Layer
from services.assignment.domain.revision import Revision

START = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Make:
    """Builds values; keyword arguments replace fields."""

    start = START

    def design(self, **changes: Any) -> Design:
        base: dict[str, Any] = {
            "display_name": "Button",
            "hypothesis": "Green sells",
            "owner": "ada",
            "unit_type": "user",
            "layer": "checkout",
            "source": AssignmentSource.SLOTS,
            "hash_version": HashVersion.FLAGD_V2,
            "salt": "split/button",
            "traffic_slots": 10_000,
            "variants": (Variant("control", 5000), Variant("green", 5000)),
            "control": "control",
        }
        return Design(**(base | changes))

    def external(self, **changes: Any) -> Design:
        return self.design(
            **({"source": AssignmentSource.EXTERNAL, "layer": "", "traffic_slots": 0} | changes)
        )

    def experiment(
        self, state: State = State.DRAFT, experiment_id: str = "button", **changes: Any
    ) -> Experiment:
        return Experiment("acme", experiment_id, self.design(**changes), state, 1, START, START)

    def layer(self, **changes: Any) -> Layer:
        layer = Layer(
            "acme",
            "checkout",
            "",
            "user",
            "layer/checkout",
            HashVersion.FLAGD_V2,
            1,
            START,
        )
        return replace(layer, **changes)

    def at(self, version: int, after: timedelta = timedelta()) -> Revision:
        return Revision(version, START + after)
