"""Every RPC of the suite, and a valid request for each, made from the contracts alone.

A new RPC needs nothing here as long as its fields are named as in the others; where they are not,
the test that validates the requests says which value is missing. The contracts of others stand in
FOREIGN, with the rules that the services give them.
"""

from __future__ import annotations

import contextlib
import importlib
import math
import pkgutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import touchstone
from flagd.evaluation.v1 import evaluation_pb2 as flagd_v1
from flagd.evaluation.v2 import evaluation_pb2 as flagd_v2
from flagd.sync.v1 import sync_pb2
from google.longrunning import operations_pb2
from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2
from touchstone.assignment.v1 import condition_pb2
from touchstone.common.v1 import filter_pb2
from touchstone_assignment.conditions import IdSet

from services.assignment.api.flagd import evaluation, sync
from services.events.api import otlp
from shared.operations import servicer as operations
from shared.server.rules import Rule, rule_of

KEY_ID = "thekey0000"
LISTED = IdSet.of_ids(["geheim"])
"""The content of the list of the audience `lis`."""
# What stands in a field of this name. `{p}` becomes the resource name of the project.
VALUES: dict[str, Any] = {
    "parent": "{p}",
    "experiment_id": "fresh",
    "layer_id": "fresh",
    "report_id": "fresh",
    "calibration_link_id": "fresh",
    "treatment": 1,
    "treatment_variant": "geheim-b",
    "path": "ads > mail",
    "sequence": ["mail"],
    "registration_event": "order",
    "min_units": 1,
    "report": "{p}/attributionReports/rep",
    "conversion_id": "geheim-conversion-0",
    "metric_id": "fresh",
    "channel_grouping_id": "fresh",
    "report_schedule_id": "fresh",
    "domain_id": "fresh",
    "holdout_id": "fresh",
    "unit_type_id": "fresh",
    "attribute_id": "fresh",
    "audience_id": "fresh",
    "upload_id": "up",
    "parts": 1,
    "ids": ["unit-1"],
    "digest": LISTED.digest,
    "config_version": 1,
    "traffic_slots": 1,
    "slots": 1,
    "event_id": "e-1",
    "event_name": "order",
    "unit_type": "user",
    "type": "user",
    "id": "unit-1",
    "key": "geheim-a",
    "flag_key": "exp",
    "weight": 10000,
    "window_s": 3600,
    "period_s": 3600,
    "variant": "geheim-a",
    "control_variant": "geheim-a",
    "conversions": ["order"],
    "channel": "geheim-mail",
    "roles": [1],
    "experiments": ["exp"],
    "metrics": ["{p}/metrics/met"],
    "metric": "{p}/metrics/met",
    "std_dev": 0.1,
    "layer": "{p}/layers/lay",
    "kind": 1,
    "format": 1,
    "paths": ["display_name"],
    "product": "loan",
    "quantity": 3,
    "half": 100.0,
    "group": "paid",
    "source": "geheim",
    "day": "2026-01-31",
    "reason": "geheim",
}
# What a `name` is of, by the message that it stands in.
COLLECTIONS = {
    "AnalysisPlan": "experiments/exp/analysisPlan",
    "Backup": "backups/bak",
    "ReportRequest": "attributionReports/rep",
    "CalibrationLinkRequest": "calibrationLinks/cal",
    "ListPaths": "attributionReports/rep",
    "CompareModels": "attributionReports/rep",
    "Experiment": "experiments/exp",
    "VariantWeights": "experiments/exp",
    "Layer": "layers/lay",
    "Metric": "metrics/met",
    "ChannelGrouping": "channelGroupings/gro",
    "ReportSchedule": "reportSchedules/sch",
    "Domain": "domains/dom",
    "Audience": "audiences/aud",
    "Holdout": "holdouts/hol",
    "UnitType": "unitTypes/user",
    "Attribute": "attributes/country",
    "IdentityPolicy": "identityPolicy",
    "Key": f"keys/{KEY_ID}",
    "Erasure": "erasures/era",
    "Retention": "retention",
    "ListOperations": "operations",
    "Operation": "operations/one",
    "RejectedEvent": "rejectedEvents/1",
}
# What stands in a map of this name.
MAPS: dict[str, dict[str, int]] = {"weights": {"geheim-a": 5000, "geheim-b": 5000}}
# Messages whose field `experiment` is a resource name, and not an id.
NAMING_EXPERIMENTS = {
    "GetResultsRequest",
    "ListLooksRequest",
    "GetHealthRequest",
    "GetTimeSeriesRequest",
    "ExperimentGroup",
    "ExperimentComparison",
    "TestedVariant",
    "MeasuredComparison",
    "ComputeBanditWeightsRequest",
    "GetInteractionsRequest",
    "ApplyBanditWeightsRequest",
    "Prerequisite",
    "SetForcedVariantRequest",
    "ClearForcedVariantRequest",
    "ListForcedVariantsRequest",
    "CheckSampleRatioRequest",
    "FindBalancedSaltRequest",
    "PlanExperimentRequest",
}
SKIPPED = {"linked_units", "start_time", "end_time"}
# What a metric of this kind does not have.
OF_OTHER_KINDS = {
    ("Metric", field) for field in ("cap", "delay", "denominator", "retention", "steps")
} | {
    *(
        ("JourneyDefinition", field)
        for field in ("windows", "associations", "credited", "channel_grouping")
    ),
    ("PathCounts", "conversions"),
    ("RunAttributionRequest", "report_id"),
    ("CalibrationLink", "credited"),
    ("ScenarioProduct", "fixed"),
    ("GetChannelEconomicsRequest", "exchange_rates"),
    ("CalibrateReportRequest", "exchange_rates"),
    ("BudgetEvidence", "exchange_rates"),
    ("AllocateBudgetRequest", "evidence"),
    ("ScenarioInput", "comparison"),
    ("PredictLifetimeValueRequest", "exchange_rates"),
}
# Where a time is needed that others may leave out, and lies behind.
NEEDED = {
    ("FindBalancedSaltRequest", "start_time"),
    ("Population", "start_time"),
    ("Population", "end_time"),
}
# Modules of contracts that are not ours, with the rules of their RPCs.
FOREIGN: list[tuple[Any, Mapping[str, Rule]]] = [
    (logs_service_pb2, otlp.RULES),
    (operations_pb2, operations.RULES),
    (flagd_v1, evaluation.RULES),
    (flagd_v2, evaluation.RULES),
    (sync_pb2, sync.RULES),
]


@dataclass(frozen=True, slots=True)
class Method:
    """An RPC with its rule."""

    path: str
    descriptor: MethodDescriptor
    rule: Rule | None

    @property
    def streams(self) -> bool:
        return bool(self.descriptor.server_streaming)

    def request(self, project: str, **top: Any) -> Message:
        """A valid request that names things of the project; `top` replaces first-level fields."""
        if self.descriptor.input_type.name == "ExportLogsServiceRequest":
            return logs()
        made = fill(self.descriptor.input_type, project)
        for name, value in top.items():
            setattr(made, name, value)
        return made


def methods() -> list[Method]:
    """Every RPC of every contract in touchstone.*, by path."""
    for module in pkgutil.walk_packages(touchstone.__path__, "touchstone."):
        if module.name.endswith("_pb2"):
            importlib.import_module(module.name)
    found = []
    for service in _services():
        for method in service.methods:
            path = f"/{service.full_name}/{method.name}"
            found.append(Method(path, method, rule_of(method)))
    for module, rules in FOREIGN:
        for service in module.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                path = f"/{service.full_name}/{method.name}"
                found.append(Method(path, method, rules.get(method.name)))
    return sorted(found, key=lambda method: method.path)


def _services() -> Iterator[Any]:
    for module in pkgutil.walk_packages(touchstone.__path__, "touchstone."):
        if module.name.endswith("_pb2"):
            yield from importlib.import_module(module.name).DESCRIPTOR.services_by_name.values()


def logs() -> Message:
    """Log records of a flag that was evaluated; requests of others name no project."""
    made = logs_service_pb2.ExportLogsServiceRequest()
    record = (
        made.resource_logs.add()
        .scope_logs.add()
        .log_records.add(time_unix_nano=time.time_ns(), event_name="feature_flag.evaluation")
    )
    texts = {
        "feature_flag.key": "exp",
        "feature_flag.result.variant": "geheim-a",
        "feature_flag.result.reason": "split",
        "feature_flag.context.id": "unit-1",
    }
    for key, text in texts.items():
        record.attributes.add(key=key).value.string_value = text
    return made


def condition() -> condition_pb2.Condition:
    """A condition that asks for one attribute."""
    return condition_pb2.Condition(
        compare=condition_pb2.Comparison(
            attribute="country", operator=condition_pb2.OPERATOR_IS_SET
        )
    )


def event_filter() -> filter_pb2.Filter:
    """A filter that asks for one field."""
    return filter_pb2.Filter(
        compare=filter_pb2.FieldComparison(
            field="source", operator=filter_pb2.FILTER_OPERATOR_IS_SET
        )
    )


_ENDING = {"Condition": condition, "Filter": event_filter}


def fill(descriptor: Descriptor, project: str) -> Message:
    """A message with every field that is known by its name or holds a message of ours."""
    message: Any = message_factory.GetMessageClass(descriptor)()
    for field in descriptor.fields:
        oneof = field.containing_oneof
        skipped = field.name in SKIPPED and (descriptor.name, field.name) not in NEEDED
        skipped = skipped or (descriptor.name, field.name) in OF_OTHER_KINDS
        if skipped or (oneof is not None and oneof.fields[0] is not field):
            continue
        if field.message_type is not None:
            _set_message(message, field, field.message_type, project)
        else:
            _set_value(message, field, project)
    if descriptor.name == "EvaluateControlGroupRequest":
        message.waves[0].variant = "geheim-b"  # the control is no wave
    made: Message = message
    return made


def _set_message(message: Message, field: FieldDescriptor, inner: Descriptor, project: str) -> None:
    kind = inner.full_name
    if kind == "google.protobuf.Timestamp":
        ahead_s = -3600 if field.name == "start_time" else 3600
        getattr(message, field.name).FromSeconds(int(time.time()) + ahead_s)
    elif inner.GetOptions().map_entry:
        getattr(message, field.name).update(MAPS.get(field.name, {}))
    elif kind.startswith("touchstone.") or kind == "google.protobuf.FieldMask":
        # A condition holds conditions: the simplest one ends that.
        ending = _ENDING.get(inner.name)
        value = ending() if ending else fill(inner, project)
        if field.is_repeated:
            getattr(message, field.name).append(value)
        else:
            getattr(message, field.name).CopyFrom(value)


def _set_value(message: Message, field: FieldDescriptor, project: str) -> None:
    value = _value(field)
    if value is None:
        return
    place = f"projects/{project}"
    if isinstance(value, list):
        getattr(message, field.name).extend(
            v.replace("{p}", place) if isinstance(v, str) else v for v in value
        )
    else:
        setattr(
            message, field.name, value.replace("{p}", place) if isinstance(value, str) else value
        )


def _value(field: FieldDescriptor) -> Any:
    owner = field.containing_type.name if field.containing_type else ""
    if field.name == "experiment":
        return "{p}/experiments/exp" if owner in NAMING_EXPERIMENTS else "exp"
    if owner == "ExposureWindow":
        return 1
    if owner == "ScenarioInput" and field.name == "value":
        return 1.0
    if owner == "Spend" and field.name == "currency":
        return "CNY"
    if owner == "Parameter" and field.name == "key":
        return "geheim_a"
    if field.name == "name":
        noun = next((noun for noun in COLLECTIONS if noun in owner), None)
        return f"{{p}}/{COLLECTIONS[noun]}" if noun else None
    found = VALUES.get(field.name)
    return 1 if field.enum_type is not None and isinstance(found, str) else found


_TEXTS = (
    *("", "a", "x" * 300, "\0", "\x1b[2J", "é" * 200, "../..", "' OR 1=1 --", "9" * 40, "1e400"),
    *("projects/delta", "projects//x/", "projects/delta/experiments/", "projects/delta/keys/x\0"),
)
_NUMBERS = (0.0, -0.0, math.nan, math.inf, 1e308, 5e-324, -1.0, 0.5)
_WHOLE = (0, 1, -1, 2**31 - 1, -(2**31), 10_000, 2**32 - 1, 2**63 - 1, -(2**63), 253_402_300_800)


def disturbed(message: Message, generator: np.random.Generator, depth: int = 0) -> Message:
    """The message with a good part of its fields replaced by values at and beyond the edges."""
    for field in message.DESCRIPTOR.fields:
        if generator.random() < 0.35:
            continue
        # A value that the field's type cannot hold does not leave the client.
        with contextlib.suppress(ValueError, TypeError, AttributeError):
            _disturb(message, field, generator, depth)
    return message


def _disturb(message: Message, field: Any, generator: np.random.Generator, depth: int) -> None:
    value = getattr(message, field.name)
    count = int(generator.integers(0, 3))
    if field.message_type is not None:
        inner = [value.add() for _ in range(count)] if field.is_repeated else [value]
        for one in inner if depth < 5 else ():
            one.SetInParent()
            disturbed(one, generator, depth + 1)
    elif field.is_repeated:
        value.extend(_edge(field, generator) for _ in range(count))
    else:
        setattr(message, field.name, _edge(field, generator))


def _edge(field: Any, generator: np.random.Generator) -> Any:
    if field.type == field.TYPE_STRING:
        return _TEXTS[generator.integers(len(_TEXTS))]
    if field.type == field.TYPE_DOUBLE:
        return _NUMBERS[generator.integers(len(_NUMBERS))]
    if field.type == field.TYPE_BOOL:
        return bool(generator.integers(2))
    if field.type == field.TYPE_ENUM:
        return int(generator.integers(-1, 9))
    return _WHOLE[generator.integers(len(_WHOLE))]
