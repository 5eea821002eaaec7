"""The service takes the metrics of the documentation's files, and files and service agree on every
default: what was defined from a file differs from it in nothing.
"""

import datetime as dt
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from services.cli.ascode.compare import changed_fields
from services.cli.ascode.present import stated
from services.cli.ascode.resources import load
from tests.contract.results_world import START, World, open_world
from tests.contract.test_results_metrics import KINDS, message

EVENTS = ("visit", "click", "view", "add_to_cart", "purchase", "page_loaded")
EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
FILES = ("metrics.yaml", "account-opening.yaml")


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as found:
        yield found


async def test_what_was_defined_from_a_file_differs_from_it_in_nothing(world: World) -> None:
    for declared in load([EXAMPLES / name for name in FILES], "demo"):
        kind, name = declared.kind, declared.resource_id
        made = await world.owner.define(name, declared.message)
        differs = changed_fields(
            kind, stated(kind, name, made), stated(kind, name, declared.message)
        )
        assert differs == [], name
        sent = stated(kind, name, declared.message)
        sent.name = made.name
        paths = [field for field in kind.fields if field != "kind"]
        again = await world.owner.call(
            "UpdateMetric", metric=sent, update_mask=FieldMask(paths=paths)
        )
        made.version, made.etag = again.metric.version, again.metric.etag
        made.update_time.CopyFrom(again.metric.update_time)
        assert again.metric == made


async def test_files_and_service_agree_on_the_defaults_of_every_kind(world: World) -> None:
    (example,) = load([EXAMPLES / "metrics.yaml"], "demo")[:1]
    for kind in KINDS:
        wanted = message(kind)
        made = await world.owner.define(kind.lower(), wanted)
        differs = changed_fields(
            example.kind, stated(example.kind, "it", made), stated(example.kind, "it", wanted)
        )
        assert differs == [], kind


def lived(units: int = 300, seed: int = 4) -> dict[str, list[dict[str, Any]]]:
    """Units that do everything now and then, from two weeks before their exposure to three after,
    and go through the funnel in its order.
    """
    rng = np.random.default_rng(seed)
    exposures, conversions = [], []
    for number in range(units):
        unit = {"unit_id": f"u-{number}"}
        variant = ("control", "green", "blue")[number % 3]
        exposures.append(unit | {"experiment": "checkout", "variant": variant})
        days = [*rng.uniform(-14, 21, (6, 3)).T.ravel()]
        steps = sorted(rng.uniform(0, 0.8, 3 if number % 2 else 0).tolist())
        for place, day in enumerate([*days, *steps]):
            name = EVENTS[place % 6] if place < len(days) else EVENTS[2 + place - len(days)]
            happened = {"event_name": name, "event_time": START + dt.timedelta(days=float(day))}
            paid = {"value": float(rng.gamma(2, 5)), "currency": "EUR"}
            more = {"event_id": f"{number}-{place}", "properties": '{"channel": "app"}'}
            conversions.append(unit | happened | paid | more)
    return {"exposures": exposures, "conversions": conversions}


async def test_the_example_of_every_kind_has_results(world: World) -> None:
    declared = load([EXAMPLES / "metrics.yaml"], "demo")
    world.write(lived())
    for each in declared:
        await world.owner.define(each.resource_id, each.message)
    found = (await world.viewer.results()).metrics
    assert len(found) == len(declared)
    assert {metric.kind for metric in found} == {each.message.kind for each in declared}
    for metric in found:
        for comparison in metric.comparisons:
            assert comparison.difference.WhichOneof("result") == "value", metric.metric
            assert 0 < comparison.p_value.value <= 1, metric.metric
