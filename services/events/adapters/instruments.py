"""What the events service measures; without an exporter it costs nothing."""

from collections.abc import Callable, Iterable

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from services.events.application.log_events import Logged
from shared.telemetry import METRICS

ITEMS, PENDING = "touchstone.events.items", "touchstone.events.pending"


def count_items(meter: Meter) -> Callable[[Logged], None]:
    """Counts what became of each event of a batch."""
    unit, description = METRICS[ITEMS]
    items = meter.create_counter(ITEMS, unit, description)

    def count(logged: Logged) -> None:
        outcomes = {
            "accepted": logged.accepted,
            "duplicate": len(logged.duplicates),
            "rejected": len(logged.rejected),
        }
        for outcome, number in outcomes.items():
            if number:
                items.add(number, {"outcome": outcome})

    return count


def show_pending(meter: Meter, total: Callable[[], int]) -> None:
    """Lets the exporter ask how many batches are pending."""
    unit, description = METRICS[PENDING]

    def observe(_options: CallbackOptions) -> Iterable[Observation]:
        return [Observation(total())]

    meter.create_observable_gauge(PENDING, [observe], unit, description)
