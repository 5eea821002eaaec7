"""OpenFeature's Python SDK and the exporters of OpenTelemetry, against the real events process."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openfeature import api
from openfeature.evaluation_context import EvaluationContext
from openfeature.flag_evaluation import FlagResolutionDetails, Reason
from openfeature.hook import Hook
from openfeature.provider import AbstractProvider, Metadata
from openfeature.telemetry import create_evaluation_event
from opentelemetry._logs import Logger, SeverityNumber
from opentelemetry.sdk._logs import LoggerProvider, ReadableLogRecord
from opentelemetry.sdk._logs.export import (
    BatchLogRecordProcessor,
    InMemoryLogRecordExporter,
    LogRecordExportResult,
    SimpleLogRecordProcessor,
)
from opentelemetry.sdk.resources import Resource

from tests.e2e.otlp_process import Running

USERS = 200


class Split(AbstractProvider):
    """A provider that splits one flag, and knows another one that everybody gets alike."""

    def get_metadata(self) -> Metadata:
        return Metadata(name="splitter")

    def get_provider_hooks(self) -> list[Hook]:
        return []

    def resolve_string_details(
        self, flag_key: str, default_value: str, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[str]:
        if flag_key == "banner":
            return FlagResolutionDetails("blue", variant="blue", reason=Reason.STATIC)
        if flag_key != "checkout":
            raise KeyError(flag_key)
        assert evaluation_context is not None
        unit = str(evaluation_context.targeting_key or "")
        variant = "treatment" if sum(unit.encode()) % 2 else "control"
        return FlagResolutionDetails(
            variant,
            variant=variant,
            reason=Reason.SPLIT,
            flag_metadata={"flagSetId": "prod", "version": "12"},
        )

    def _none(self, *_given: Any, **_named: Any) -> Any:
        raise NotImplementedError

    resolve_boolean_details = resolve_integer_details = _none
    resolve_float_details = resolve_object_details = _none


class LogEventHook(Hook):
    """Emits what the SDK says of an evaluation as a log record."""

    def __init__(self, logger: Logger) -> None:
        self._logger = logger

    def finally_after(self, hook_context: Any, details: Any, hints: Any) -> None:
        event = create_evaluation_event(hook_context, details)
        self._logger.emit(
            event_name=event.name,
            timestamp=time.time_ns(),
            severity_number=SeverityNumber.INFO,
            attributes={str(key): value for key, value in event.attributes.items()},
            body={str(key): value for key, value in event.body.items()} or None,
        )


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    found = Running(tmp_path_factory.mktemp("otlp"))
    found.process.start()
    yield found
    assert found.process.terminate() == 0


def resource(name: str) -> Resource:
    return Resource.create({"service.name": name, "service.instance.id": f"{name}-1"})


def evaluated(name: str, users: int = 1) -> list[ReadableLogRecord]:
    """What the SDK hands to an exporter for the evaluations of some users."""
    kept = InMemoryLogRecordExporter()
    provider = LoggerProvider(resource=resource(name))
    provider.add_log_record_processor(SimpleLogRecordProcessor(kept))
    evaluate(provider, users)
    provider.shutdown()
    return list(kept.get_finished_logs())


def evaluate(provider: LoggerProvider, users: int) -> None:
    api.set_provider(Split())
    client = api.get_client()
    client.add_hooks([LogEventHook(provider.get_logger("shop-hook", "2.1"))])
    for number in range(users):
        context = EvaluationContext(targeting_key=f"customer-{number}")
        client.get_string_value("checkout", "control", context)
    client.get_string_value("banner", "red", EvaluationContext(targeting_key="customer-0"))
    client.get_string_value("missing", "none", EvaluationContext(targeting_key="customer-0"))
    client.get_string_value("checkout", "control")  # nobody in particular
    api.shutdown()


@pytest.mark.parametrize("kind", ["grpc", "http", "http with gzip"])
def test_evaluations_of_the_sdk_become_exposures_and_evaluations(
    running: Running, kind: str
) -> None:
    provider = LoggerProvider(resource=resource(kind))
    exporter = running.exporter(kind)
    provider.add_log_record_processor(BatchLogRecordProcessor(exporter))
    evaluate(provider, USERS)
    assert provider.force_flush(20_000)
    provider.shutdown()
    exposures = running.rows("exposures", kind, USERS)
    assert len(exposures) == USERS
    first = next(row for row in exposures if row["unit_id"] == "customer-0")
    assert (first["experiment"], first["unit_type"], first["reason"], first["config_version"]) == (
        *("checkout", "user", "split", 12),
    )
    assert (first["evaluator"], first["properties"]) == (
        "splitter (shop-hook 2.1)",
        '{"flag_set":"prod"}',
    )
    assert {row["variant"] for row in exposures} == {"control", "treatment"}
    evaluations = {row["flag"]: row for row in running.rows("evaluations", kind, 2)}
    assert evaluations.keys() == {"banner", "missing"}
    assert (evaluations["banner"]["reason"], evaluations["banner"]["variant"]) == ("static", "blue")
    missing = evaluations["missing"]
    assert (missing["reason"], missing["error_type"], missing["value_json"]) == (
        *("error", "general", '"none"'),
    )


@pytest.mark.parametrize("kind", ["grpc", "http"])
def test_exporter_that_repeats_itself_is_counted_once(tmp_path: Path, kind: str) -> None:
    """Through either door, and across a restart."""
    own = Running(tmp_path)
    records = evaluated("again", users=20)
    for door in (kind, kind, "http", "grpc"):
        own.process.start()
        for _ in range(2):
            assert own.exporter(door).export(records) is LogRecordExportResult.SUCCESS
        assert own.process.terminate() == 0
    assert len(own.rows("exposures", "again", 20)) == 20
    assert len(own.rows("evaluations", "again", 2)) == 2


@pytest.mark.parametrize("kind", ["grpc", "http"])
def test_exporter_outlives_a_service_that_is_killed(tmp_path: Path, kind: str) -> None:
    """It retries by itself, because the service is unavailable, and loses nothing."""
    own = Running(tmp_path)
    own.process.start()
    exporter = own.exporter(kind)
    assert exporter.export(evaluated("before")) is LogRecordExportResult.SUCCESS
    own.process.kill()
    results: list[LogRecordExportResult] = []
    records = evaluated("during", users=5)
    thread = threading.Thread(target=lambda: results.append(exporter.export(records)))
    thread.start()
    time.sleep(0.5)
    own.process.start()
    thread.join(30)
    assert results == [LogRecordExportResult.SUCCESS]
    assert len(own.rows("exposures", "during", 5)) == 5
    assert len(own.rows("exposures", "before", 1)) == 1
    exporter.shutdown()
    assert own.process.terminate() == 0
