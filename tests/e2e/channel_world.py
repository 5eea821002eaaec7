"""Customers whose conversions by cause are known, in experiments that switch their channels.

Customers with intent buy without any channel, and retargeting follows them around: it stands last
before purchases that it did not cause. Each channel is switched off for half of the customers, at
random and independently, by an experiment of its own. Everybody is exposed to every experiment,
reached by a channel or not: exposure says what could have been shown.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from google.protobuf.timestamp_pb2 import Timestamp
from numpy.typing import NDArray
from touchstone.common.v1 import unit_pb2
from touchstone.events.v1 import event_pb2

CHANNELS = ("display", "mail", "retargeting")
EFFECTS = np.array([0.12, 0.06, 0.0])
"""Purchases that showing a channel to one customer causes."""

REACHED = np.array([[0.3, 0.4, 0.05], [0.3, 0.4, 0.7]])
"""Chance of being reached by each channel that is on, without intent and with it."""

ORGANIC = np.array([0.01, 0.25])
INTENT = 0.2
AMOUNT = 20.0
COST = 0.5
START = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)
TOUCH_DAYS = (1, 2, 9)
PURCHASE_DAY = 10


@dataclass(frozen=True, slots=True)
class Customers:
    """Who was shown what, and who bought."""

    shown: NDArray[np.bool_]
    bought: NDArray[np.bool_]

    @property
    def caused(self) -> Mapping[str, float]:
        """Expected purchases that each channel caused."""
        counts = EFFECTS * self.shown.sum(axis=0)
        return dict(zip(CHANNELS, counts.tolist(), strict=True))


def customers(
    switched_on: NDArray[np.bool_], seed: int, intensity: NDArray[np.float64] | float = 1.0
) -> Customers:
    """Customers whose channels are switched on in these columns, in the order of CHANNELS.

    They are reached with the chance of REACHED, times an intensity of the same shape.
    """
    random = np.random.default_rng(seed)
    intent = (random.random(len(switched_on)) < INTENT).astype(np.int64)
    shown = (random.random(switched_on.shape) < REACHED[intent] * intensity) & switched_on
    bought = random.random(len(intent)) < ORGANIC[intent] + shown @ EFFECTS
    return Customers(shown, bought)


def unit(number: int) -> unit_pb2.UnitId:
    """The id of a customer."""
    return unit_pb2.UnitId(type="user", id=f"customer-{number}")


def events(
    who: Customers, variants: Mapping[str, list[str]], event_name: str, days: int = 1
) -> Iterator[event_pb2.Event]:
    """Exposures to the experiments, the touches, and the purchases; customers come over so many
    days, in turns.
    """
    for experiment, of_units in variants.items():
        for number, variant in enumerate(of_units):
            exposure = event_pb2.Exposure(experiment=experiment, variant=variant)
            yield _event(f"{experiment}-{number}", number, number % days, exposure=exposure)
    for number, column in np.argwhere(who.shown).tolist():
        touch = event_pb2.Touchpoint(channel=CHANNELS[column], cost=COST)
        day = number % days + TOUCH_DAYS[column]
        yield _event(f"touch-{number}-{column}", number, day, touchpoint=touch)
    for number in np.flatnonzero(who.bought).tolist():
        purchase = event_pb2.Conversion(event_name=event_name, value=AMOUNT)
        day = number % days + PURCHASE_DAY
        yield _event(f"{event_name}-{number}", number, day, conversion=purchase)


def _event(
    event_id: str,
    number: int,
    day: int,
    *,
    exposure: event_pb2.Exposure | None = None,
    touchpoint: event_pb2.Touchpoint | None = None,
    conversion: event_pb2.Conversion | None = None,
) -> event_pb2.Event:
    time = Timestamp()
    time.FromDatetime(START + dt.timedelta(days=day, seconds=number))
    return event_pb2.Event(
        event_id=f"calibration-{event_id}",
        event_time=time,
        unit=unit(number),
        exposure=exposure,
        touchpoint=touchpoint,
        conversion=conversion,
    )
