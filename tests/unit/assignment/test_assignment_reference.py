"""The reference names everything that there is, and its examples hold."""

import dataclasses
import doctest
from pathlib import Path

from touchstone.assignment.v1 import (
    assignment_service_pb2,
    audience_service_pb2,
    experiment_service_pb2,
    layer_service_pb2,
)

from services.assignment.adapters.poller import STALENESS_METRIC
from services.assignment.adapters.schedule_keeper import STEPS_METRIC
from services.assignment.domain.experiment import State
from services.assignment.domain.limits import LIMITS
from services.assignment.settings import Settings
from shared.settings import ServiceSettings

PAGE = Path(__file__).resolve().parents[3] / "docs" / "reference" / "assignment.md"
TEXT = PAGE.read_text("utf-8")


def test_the_examples_hold() -> None:
    found = doctest.testfile(str(PAGE), module_relative=False)
    assert found.attempted >= 5
    assert found.failed == 0


def test_every_rpc_is_named() -> None:
    for module in (
        assignment_service_pb2,
        audience_service_pb2,
        experiment_service_pb2,
        layer_service_pb2,
    ):
        for service in module.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                assert f"| `{method.name}` |" in TEXT


def test_every_setting_of_its_own_is_named() -> None:
    own = set(Settings.model_fields) - set(ServiceSettings.model_fields)
    assert own
    for name in own:
        assert f"`TOUCHSTONE_{name.upper()}`" in TEXT


def test_every_reason_state_limit_and_metric_is_named() -> None:
    for state in State:
        assert f"| {state.lower()} |" in TEXT
    for value in dataclasses.asdict(LIMITS).values():
        assert f"{value:,}" in TEXT
    for metric in (STALENESS_METRIC, STEPS_METRIC):
        assert metric in TEXT
