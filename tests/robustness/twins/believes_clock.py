"""The events service that forgets ids by whatever a clock says once."""

from __future__ import annotations

from tests.robustness.twins.clock import step_clock
from tests.robustness.twins.replaced import replace_method, serve


def believe(day: object, today: int) -> bool:
    """Stands in for what doubts a clock that jumps."""
    day._day = max(day._day, today)  # type: ignore[attr-defined]
    return True


if __name__ == "__main__":
    step_clock()
    replace_method("services.events.domain.dedupe", "SteadyDay", "read", believe)
    serve()
