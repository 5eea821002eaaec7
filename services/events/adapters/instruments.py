"""What the events service measures; without an exporter it costs nothing."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from services.events.application.log_events import Logged
from shared.telemetry import METRICS

ITEMS, PENDING = "touchstone.events.items", "touchstone.events.pending"
RECORDS = "touchstone.events.otlp.records"


def count_items(meter: Meter) -> Callable[[Logged], None]:
    """Counts what became of each event of a batch, and why one was rejected."""
    unit, description = METRICS[ITEMS]
    items = meter.create_counter(ITEMS, unit, description)

    def count(logged: Logged) -> None:
        for outcome, number in (
            ("accepted", logged.accepted),
            ("duplicate", len(logged.duplicates)),
        ):
            if number:
                items.add(number, {"outcome": outcome})
        if logged.rejected:
            reasons = Counter(why.reason.value.lower() for _, why in logged.rejected)
            for reason, number in reasons.items():
                items.add(number, {"outcome": "rejected", "reason": reason})

    return count


def count_records(meter: Meter) -> Callable[[Mapping[str, int]], None]:
    """Counts what became of each log record of an export, by its outcome."""
    unit, description = METRICS[RECORDS]
    records = meter.create_counter(RECORDS, unit, description)

    def count(outcomes: Mapping[str, int]) -> None:
        for outcome, number in outcomes.items():
            if number:
                records.add(number, {"outcome": outcome})

    return count


def show_pending(meter: Meter, total: Callable[[], int]) -> None:
    """Lets the exporter ask how many batches are pending."""
    unit, description = METRICS[PENDING]

    def observe(_options: CallbackOptions) -> Iterable[Observation]:
        return [Observation(total())]

    meter.create_observable_gauge(PENDING, [observe], unit, description)
