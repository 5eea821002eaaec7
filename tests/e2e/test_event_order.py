"""The order of arrival changes nothing: the same events, shuffled, through the whole suite."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf.message import Message
from touchstone.assignment.v1 import experiment_pb2, experiment_service_pb2, layer_pb2
from touchstone.assignment.v1 import layer_service_pb2 as layer_service
from touchstone.attribution.v1 import attribution_pb2, attribution_service_pb2
from touchstone.common.v1 import identity_pb2, unit_pb2
from touchstone.events.v1 import event_pb2, events_service_pb2
from touchstone.results.v1 import metric_pb2, metric_service_pb2, results_service_pb2

from shared.lake.layout import TABLES
from shared.lake.snapshot import LakeEventTables
from shared.security.caller import Role
from shared.server.run import RunningServer
from tests.security.contracts import Method, methods
from tests.security.suite import Suite, running_suite

ORDERS = 3
USERS = 80
BY_NAME: dict[str, Method] = {method.descriptor.name: method for method in methods()}
ARRIVAL = {"project", "position", "receive_time"}
"""The columns that tell how an event was received."""


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Suite, Path]]:
    folder = tmp_path_factory.mktemp("order")
    with running_suite(folder) as running:
        yield running, folder


def call(suite: Suite, name: str, request: Message, key: Any) -> Any:
    answer = suite.call(BY_NAME[name], request, key)
    assert answer.error is None, f"{name}: {answer.error}"
    return answer.messages[0]


def prepare(suite: Suite, project: str, key: Any) -> None:
    """A layer, a running experiment and two metrics."""
    parent = f"projects/{project}"
    variants = [experiment_pb2.Variant(key=name, weight=5000) for name in ("a", "b")]
    experiment = experiment_pb2.Experiment(
        display_name="order",
        hypothesis="none",
        layer=f"{parent}/layers/lay",
        unit_type="user",
        variants=variants,
        control_variant="a",
    )
    layer = layer_pb2.Layer(display_name="order", unit_type="user")
    requests: list[tuple[str, Message]] = [
        (
            "CreateLayer",
            layer_service.CreateLayerRequest(parent=parent, layer_id="lay", layer=layer),
        ),
        (
            "CreateExperiment",
            experiment_service_pb2.CreateExperimentRequest(
                parent=parent, experiment_id="exp", experiment=experiment
            ),
        ),
        (
            "StartExperiment",
            experiment_service_pb2.StartExperimentRequest(name=f"{parent}/experiments/exp"),
        ),
    ]
    for name, kind in (
        ("bought", metric_pb2.METRIC_KIND_PROPORTION),
        ("spent", metric_pb2.METRIC_KIND_MEAN),
    ):
        metric = metric_pb2.Metric(display_name=name, kind=kind, event_name="buy")
        requests.append(
            (
                "CreateMetric",
                metric_service_pb2.CreateMetricRequest(
                    parent=parent, metric_id=name, metric=metric
                ),
            )
        )
    for name, request in requests:
        call(suite, name, request, key)


def events(seed: int) -> list[event_pb2.Event]:
    """Journeys of users over a month, some with a device, with times that are equal and sums that
    a float would round differently in another order.
    """
    dice = np.random.default_rng(seed)
    start = dt.datetime(2026, 2, 1, tzinfo=dt.UTC)
    found: list[event_pb2.Event] = []

    def add(unit: unit_pb2.UnitId, minute: int, **payload: Any) -> None:
        one = event_pb2.Event(event_id=f"e{len(found)}", unit=unit, **payload)
        one.event_time.FromDatetime(start + dt.timedelta(minutes=minute))
        found.append(one)

    for number in range(USERS):
        user = unit_pb2.UnitId(type="user", id=f"u{number}")
        device = unit_pb2.UnitId(type="device", id=f"d{number}")
        if number % 3 == 0:
            add(device, int(dice.integers(40_000)), identify=event_pb2.Identify(other_unit=user))
        for _ in range(int(dice.integers(1, 3))):
            variant = "ab"[number % 2] if number % 11 else str(dice.choice(["a", "b"]))
            exposure = event_pb2.Exposure(experiment="exp", variant=variant)
            add(user, int(dice.integers(100)) * 400, exposure=exposure)
        for _ in range(int(dice.integers(0, 5))):
            channel = str(dice.choice(["mail", "ads", "search"]))
            touch = event_pb2.Touchpoint(channel=channel, cost=0.1 * float(dice.integers(1, 9)))
            unit = device if number % 3 == 0 and dice.random() < 0.5 else user
            add(unit, int(dice.integers(100)) * 400, touchpoint=touch)
        for _ in range(int(dice.integers(0, 3))):
            value = float(dice.choice([0.1, 0.2, 0.3, 1e9, 1e-9, -7.7]))
            bought = event_pb2.Conversion(event_name="buy", value=value)
            add(user, int(dice.integers(100)) * 400, conversion=bought)
    return found


def send(suite: Suite, key: Any, shuffled: list[event_pb2.Event], dice: np.random.Generator) -> str:
    """Send them in batches of any size, some of them twice; the token that covers all."""
    token, place = "", 0
    while place < len(shuffled):
        size = int(dice.integers(1, 60))
        again = shuffled[max(0, place - 3) : place]
        batch = events_service_pb2.LogEventsRequest(
            events=[*shuffled[place : place + size], *again]
        )
        reply = call(suite, "LogEvents", batch, key)
        assert reply.duplicates == len(again)
        assert not reply.rejected
        token, place = reply.consistency_token, place + size
    return str(token)


def answers(suite: Suite, project: str, key: Any, token: str) -> dict[str, bytes]:
    """What the readers say, without what names the project and the moment."""
    said: dict[str, bytes] = {}
    for name, stitching in identity_pb2.Stitching.items():
        results = call(
            suite,
            "GetResults",
            results_service_pb2.GetResultsRequest(
                experiment=f"projects/{project}/experiments/exp",
                metrics=[f"projects/{project}/metrics/{m}" for m in ("bought", "spent")],
                consistency_token=token,
                stitching=stitching,
            ),
            key,
        ).results
        results.ClearField("provenance")
        for metric in results.metrics:
            for comparison in metric.comparisons:
                comparison.look.ClearField("watermark")
        said[f"results {name}"] = results.SerializeToString(deterministic=True).replace(
            project.encode(), b"project"
        )
        attribution = call(
            suite,
            "GetAttribution",
            attribution_service_pb2.GetAttributionRequest(
                journeys=attribution_pb2.JourneyDefinition(
                    event_name="buy", unit_type="user", stitching=stitching
                ),
                consistency_token=token,
            ),
            key,
        )
        attribution.ClearField("provenance")
        said[f"attribution {name}"] = attribution.SerializeToString(deterministic=True)
    return said


def tables(lake: Path, project: str) -> dict[str, list[str]]:
    """Every row of every table, without how it was received."""
    rows: dict[str, list[str]] = {}
    with LakeEventTables(lake).snapshot(project).read() as stored:
        for name in TABLES:
            table = stored[name].to_pyarrow()
            kept = [column for column in table.column_names if column not in ARRIVAL]
            rows[name] = sorted(repr(row) for row in table.select(kept).to_pylist())
    return rows


@pytest.mark.parametrize("seed", [1, 2])
def test_the_order_of_arrival_changes_nothing(suite: tuple[Suite, Path], seed: int) -> None:
    running, folder = suite
    lake = _lake(running.running["events"], folder)
    sent = events(seed)
    seen: list[tuple[dict[str, bytes], dict[str, list[str]]]] = []
    for order in range(ORDERS):
        project = f"order-{seed}-{order}"
        key = running.key(project, frozenset(Role))
        prepare(running, project, key)
        dice = np.random.default_rng([seed, order])
        shuffled = list(sent)
        if order:
            dice.shuffle(shuffled)
        token = send(running, key, shuffled, dice)
        seen.append((answers(running, project, key, token), tables(lake, project)))
    (said, stored), *others = seen
    assert sum(len(rows) for rows in stored.values()) == len(sent)
    for said_there, stored_there in others:
        assert stored_there == stored
        differing = [name for name, bytes_ in said.items() if said_there[name] != bytes_]
        assert differing == [], f"seed {seed}"


def test_other_events_would_be_noticed(suite: tuple[Suite, Path]) -> None:
    """The twin: one event at another time, and the answers differ."""
    running, _ = suite
    found = []
    for changed in (False, True):
        project = f"twin-{changed}".lower()
        key = running.key(project, frozenset(Role))
        prepare(running, project, key)
        sent = events(3)
        if changed:
            conversion = next(e for e in sent if e.HasField("conversion"))
            conversion.event_time.FromSeconds(conversion.event_time.seconds - 40 * 86_400)
        token = send(running, key, sent, np.random.default_rng(0))
        found.append(answers(running, project, key, token))
    assert found[0] != found[1]


def _lake(events_server: RunningServer, folder: Path) -> Path:
    settings = events_server.application.settings
    assert settings.data == folder
    return settings.lake_path
