"""Plays the simulated shop through the public RPCs, as a product's own backend would."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice

import numpy as np
from rich.progress import Progress
from touchstone.assignment.v1 import assignment_service_pb2 as assign_pb
from touchstone.assignment.v1 import experiment_pb2
from touchstone.assignment.v1 import experiment_service_pb2 as experiments_pb
from touchstone.common.v1.unit_pb2 import UnitId
from touchstone.events.v1.event_pb2 import Conversion, Event, Exposure, Touchpoint
from touchstone.results.v1 import metric_pb2
from touchstone.results.v1 import metric_service_pb2 as metrics_pb

from services.cli.figures import enum_text
from services.cli.importing.batches import Batch
from services.cli.importing.cells import microseconds, stamp
from services.cli.importing.sender import Sender
from services.cli.session import Session
from services.cli.splits import with_equal_weights
from services.cli.tutorial.shop import ARMS, CURRENCY, EXPERIMENT, simulate_orders
from services.cli.tutorial.visitors import CHANNELS, EVENT_NAME, simulate_journeys
from shared.errors import invalid, unavailable

_BATCH = 2000
_DAY_US = 86_400_000_000
_HOUR_US = 3_600_000_000
_CALL_S = 15.0
_READY_S = 20.0
METRICS = {"purchase": metric_pb2.METRIC_KIND_PROPORTION, "revenue": metric_pb2.METRIC_KIND_MEAN}


def define(session: Session) -> None:
    """Makes two metrics and the experiment, and starts it."""
    for metric, kind in METRICS.items():
        session.metrics.CreateMetric(
            metrics_pb.CreateMetricRequest(
                parent=session.parent,
                metric_id=metric,
                metric=metric_pb2.Metric(
                    kind=kind,
                    event_name="purchase",
                    role=metric_pb2.METRIC_ROLE_PRIMARY,
                    currency=CURRENCY if kind == metric_pb2.METRIC_KIND_MEAN else "",
                ),
            )
        )
    weights = with_equal_weights([(arm.key, None) for arm in ARMS])
    session.experiments.CreateExperiment(
        experiments_pb.CreateExperimentRequest(
            parent=session.parent,
            experiment_id=EXPERIMENT,
            experiment=experiment_pb2.Experiment(
                display_name="Checkout button",
                hypothesis="Fewer clicks to the order make more customers order.",
                variants=[
                    experiment_pb2.Variant(key=key, weight=weight)
                    for key, weight in weights.items()
                ],
            ),
        )
    )
    name = session.name("experiments", EXPERIMENT)
    session.experiments.StartExperiment(experiments_pb.StartExperimentRequest(name=name))


def assign_customers(session: Session, customers: int, progress: Progress) -> list[str]:
    """The variant of each customer, decided by the service."""
    _wait_until_assigning(session)
    task = progress.add_task("assigning customers", total=customers)
    variants: list[str] = []
    for begin in range(0, customers, _BATCH):
        places = range(begin, min(begin + _BATCH, customers))
        reply = session.assignment.Assign(_assign_request(places))
        variants += [unit.decisions[0].variant for unit in reply.units]
        progress.update(task, completed=len(variants))
    return variants


def log_shop(
    session: Session,
    variants: Sequence[str],
    now: dt.datetime,
    random: np.random.Generator,
    progress: Progress,
) -> str:
    """Logs an exposure of every customer and the orders that follow; the token of the last."""
    orders = simulate_orders(variants, random)
    begin_us = microseconds(now) - 14 * _DAY_US
    step_us = 13 * _DAY_US // max(len(variants), 1)

    def events() -> Iterator[Event]:
        for place, variant in enumerate(variants):
            seen_us = begin_us + place * step_us
            unit = _customer(place)
            exposure = Exposure(experiment=EXPERIMENT, variant=variant, evaluator="tutorial")
            yield Event(
                event_id=f"exposure-{place}",
                event_time=stamp(seen_us),
                unit=unit,
                source="tutorial",
                exposure=exposure,
            )
            if orders.ordered[place]:
                order = Conversion(
                    event_name="purchase", value=float(orders.values[place]), currency=CURRENCY
                )
                yield Event(
                    event_id=f"order-{place}",
                    event_time=stamp(seen_us + int(orders.delays_s[place]) * 1_000_000),
                    unit=unit,
                    source="tutorial",
                    conversion=order,
                )

    total = len(variants) + int(orders.ordered.sum())
    task = progress.add_task("logging exposures and orders", total=total)
    return _log(session, events(), lambda count: progress.advance(task, count))


def log_journeys(
    session: Session,
    visitors: int,
    now: dt.datetime,
    random: np.random.Generator,
    progress: Progress,
) -> str:
    """Logs the touches of visitors and the sign-ups at their ends; the token of the last."""
    journeys, signed_up = simulate_journeys(visitors, random)
    begin_us = microseconds(now) - 21 * _DAY_US

    def events() -> Iterator[Event]:
        for visitor, channels in enumerate(journeys):
            unit = UnitId(type="user", id=f"visitor-{visitor}")
            at_us = begin_us + visitor * 1_000_000
            for step, channel in enumerate(channels):
                yield Event(
                    event_id=f"touch-{visitor}-{step}",
                    event_time=stamp(at_us + step * _HOUR_US),
                    unit=unit,
                    source="tutorial",
                    touchpoint=Touchpoint(channel=CHANNELS[channel], interaction="click"),
                )
            if signed_up[visitor]:
                yield Event(
                    event_id=f"signup-{visitor}",
                    event_time=stamp(at_us + len(channels) * _HOUR_US),
                    unit=unit,
                    source="tutorial",
                    conversion=Conversion(event_name=EVENT_NAME),
                )

    total = sum(map(len, journeys)) + int(signed_up.sum())
    task = progress.add_task("logging journeys", total=total)
    return _log(session, events(), lambda count: progress.advance(task, count))


def _log(session: Session, events: Iterator[Event], on_events: Callable[[int], None]) -> str:
    stub = session.events
    sender = Sender(lambda request: stub.LogEvents(request, timeout=_CALL_S))
    token = ""
    for batch, answer in sender.send_all(_batches(events)):
        if answer.rejected:
            raise invalid("an event", answer.rejected[0].event_id, answer.rejected[0].message)
        token = answer.consistency_token
        on_events(len(batch.events))
    return token


def _batches(events: Iterator[Event]) -> Iterator[Batch]:
    while some := list(islice(events, _BATCH)):
        yield Batch(events=some)


def _wait_until_assigning(session: Session) -> None:
    """A started experiment reaches the services' memory a moment later."""
    deadline = time.monotonic() + _READY_S
    while True:
        reply = session.assignment.Assign(_assign_request(range(1)))
        if reply.units[0].decisions[0].variant:
            return
        if time.monotonic() >= deadline:
            reason = enum_text(reply.units[0].decisions[0], "reason", "DECISION_REASON_")
            raise unavailable(
                "NOT_YET_FRESH",
                f"experiment {EXPERIMENT} was started {_READY_S:.0f} s ago, and customer 0 still "
                f"gets no variant ({reason}); read the log of assignment",
            )
        time.sleep(0.1)


def _assign_request(places: range) -> assign_pb.AssignRequest:
    return assign_pb.AssignRequest(
        units=[assign_pb.UnitContext(ids=[_customer(place)]) for place in places],
        experiments=[EXPERIMENT],
    )


def _customer(place: int) -> UnitId:
    return UnitId(type="user", id=f"customer-{place}")
