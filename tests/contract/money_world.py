"""Touches, conversions and spend whose economics are computed by hand."""

from pathlib import Path
from typing import Any

import numpy as np
from touchstone.attribution.v1 import spend_service_pb2

from shared.lake.rows import table_of
from shared.lake.writer import LakeWriter
from shared.testing.fakes import FixedClock
from tests.contract.attribution_world import NOW, moment

TOUCHES = (
    ("ann", 1, "ads", 1.0),
    ("ann", 2, "mail", None),
    ("bob", 1, "ads", 1.0),
    ("eve", 2, "ads", 1.0),
)
BOUGHT = (
    ("ann", 3, 10.0),
    ("ann", 10, 30.0),
    ("dan", 3, 4.0),
    ("eve", 4, 20.0),
    ("eve", 30, 5.0),
)
SPEND = (
    ("platform", "ads", 1, 6.0, "CNY"),
    ("platform", "ads", 2, 6.0, "CNY"),
    ("platform", "ads", 20, 99.0, "CNY"),
    ("agency", "ads", 2, 5.0, "CNY"),
    ("agency", "radio", 2, 7.0, "CNY"),
    ("agency", "tv", 2, 7.0, "USD"),
)


def write_money_events(
    lake: Path,
    currency: str | None = "CNY",
    bought: tuple[tuple[str, float, float], ...] = BOUGHT,
    touched: tuple[tuple[str, float, str, float | None], ...] = TOUCHES,
) -> str:
    """Write the events of project `demo`; the watermark."""

    def row(number: int, kind: str, unit: str, day: float, **fields: Any) -> dict[str, Any]:
        about = {"project": "demo", "event_time": moment(day), "unit_id": unit}
        return {"event_id": f"{kind}{number}", "currency": currency, **about, **fields}

    touches = [
        row(n, "t", unit, day, channel=channel, cost=cost)
        for n, (unit, day, channel, cost) in enumerate(touched)
    ]
    conversions = [
        row(n, "c", unit, day, event_name="buy", value=value)
        for n, (unit, day, value) in enumerate(bought)
    ]
    tables = {
        "touchpoints": table_of("touchpoints", touches),
        "conversions": table_of("conversions", conversions),
    }
    return LakeWriter(lake, "journal-a", FixedClock(NOW)).append(tables, 1).token()


def spend_rows() -> list[spend_service_pb2.Spend]:
    """The spend of January."""
    return [
        spend_service_pb2.Spend(
            source=source,
            channel=channel,
            day=moment(day).date().isoformat(),
            amount=amount,
            currency=currency,
        )
        for source, channel, day, amount, currency in SPEND
    ]


def write_customers(lake: Path, units: int = 400, currency: str | None = "CNY") -> str:
    """Customers of two channels, one buying twice as much at a time, over 240 days."""
    draw = np.random.default_rng(11)
    touched, bought = [], []
    for number in range(units):
        unit, paid = f"u{number:04}", number % 2 == 0
        time, rate = draw.uniform(0.5, 40.0), draw.gamma(1.2, 1 / 12)
        stop, mean = draw.beta(1.0, 8.0), (40.0 if paid else 20.0) / draw.gamma(8.0, 1 / 7)
        if number % 50:
            touched.append((unit, time - 0.25, "ads" if paid else "mail", None))
        while time < 240:
            bought.append((unit, time, round(float(draw.gamma(6.0, mean / 6.0)), 2)))
            if draw.random() < stop:
                break
            time += draw.exponential(1 / rate)
    return write_money_events(lake, currency, tuple(bought), tuple(touched))
