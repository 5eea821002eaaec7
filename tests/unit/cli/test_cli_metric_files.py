"""Metrics as code, without a service: what is right, what is wrong and where, and the way back."""

import datetime as dt
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
import yaml
from google.protobuf.duration_pb2 import Duration
from hypothesis import given
from hypothesis import strategies as st
from touchstone.common.v1 import filter_pb2
from touchstone.results.v1 import metric_pb2
from typer.testing import CliRunner

from services.cli.ascode.compare import changed_fields
from services.cli.ascode.export import document
from services.cli.ascode.faults import FaultyError
from services.cli.ascode.json_schema import json_schema
from services.cli.ascode.kinds import KINDS
from services.cli.ascode.needs import needs_of
from services.cli.ascode.plan import in_phases, make_plan
from services.cli.ascode.present import Present, stated
from services.cli.ascode.resources import Declared, load
from services.cli.ascode.spans import read_span, span_text
from services.cli.main import app

EXAMPLES = Path(__file__).parents[3] / "docs" / "examples"
METRIC = """
apiVersion: touchstone/v1
kind: Metric
metadata: {name: it}
spec:
  kind: RATIO
  event_name: buy
"""


def read(tmp_path: Path, content: str) -> list[Declared]:
    file = tmp_path / "it.yaml"
    file.write_text(content)
    return load([file])


def faults(tmp_path: Path, more: str) -> list[str]:
    with pytest.raises(FaultyError) as caught:
        read(tmp_path, METRIC + more)
    found = caught.value.faults
    return [f"{fault.place.line}:{fault.place.column} {fault.message}" for fault in found]


@pytest.mark.parametrize("name", ["metrics.yaml", "account-opening.yaml"])
def test_the_examples_are_right_for_the_command_and_for_editors(name: str) -> None:
    declared = load([EXAMPLES / name])
    assert {each.kind.name for each in declared} == {"Metric"}
    validator = jsonschema.Draft202012Validator(json_schema())
    for each in yaml.safe_load_all((EXAMPLES / name).read_text()):
        validator.validate(each)


def test_there_is_an_example_of_every_kind() -> None:
    kinds = {each.message.kind for each in load([EXAMPLES / "metrics.yaml"])}
    assert kinds == {number for number in metric_pb2.MetricKind.values() if number}


def test_the_account_opening_has_its_twelve_steps_and_who_comes_back() -> None:
    found = {each.resource_id: each.message for each in load([EXAMPLES / "account-opening.yaml"])}
    assert len(found["account-opening"].steps) == 12
    assert found["account-opening"].steps[-1].filter.negated.compare.field == "properties.staff"
    assert len(found["onboarding"].steps) == 4
    days = [found[name].retention for name in ("next-day-retention", "week-retention")]
    assert [(each.first_day, each.last_day) for each in days] == [(1, 1), (7, 7)]


def test_a_filter_is_written_like_the_conditions_of_an_experiment(tmp_path: Path) -> None:
    content = METRIC + (
        "  filter:\n    any:\n"
        "      - all: [{compare: {field: value, operator: LESS, values: [5]}}]\n"
        "      - negated: {compare: {field: source, operator: IN, values: [a, true, 1.5]}}\n"
    )
    (found,) = read(tmp_path, content)
    first, second = found.message.filter.any.filters
    assert first.all.filters[0].compare.operator == filter_pb2.FILTER_OPERATOR_LESS
    assert first.all.filters[0].compare.values[0].number_value == 5
    kinds = [value.WhichOneof("kind") for value in second.negated.compare.values]
    assert kinds == ["string_value", "bool_value", "number_value"]


WRONG = {
    "an unknown field": ("  windw: 1d\n", "8:3 there is no field 'windw'"),
    "a field that the service sets": ("  version: 3\n", "8:3 there is no field 'version'"),
    "a span without its unit": (
        "  conversion_window: 7\n",
        '8:22 conversion_window is "7"; allowed: a span such as 14d, 36h, 90m or 30s',
    ),
    "a number that is a text": ('  margin: "0.02"\n', '8:11 margin is "0.02"; allowed: a number'),
    "no finite number": ("  margin: .nan\n", "8:11 margin is"),
    "an unknown operator": (
        "  filter: {compare: {field: value, operator: BELOW, values: [5]}}\n",
        '8:46 filter.compare.operator is "BELOW"; allowed: IS_SET, EQUAL',
    ),
    "a field of events that there is not": (
        "  filter:\n    all:\n      - compare: {field: amount, operator: IS_SET}\n",
        "10:19 filter.all.filters[0].compare.field is",
    ),
    "two caps": (
        "  cap: {absolute: 3, percentile: 0.9}\n",
        "8:22 percentile stands beside absolute; keep one of them",
    ),
    "beyond the contract": ("  quantile: 1.5\n", "8:3 quantile is 1.5"),
    "a step that is none": ("  steps: [{event_name: Größe}]\n", "8:12 steps[0].event_name is"),
}


@pytest.mark.parametrize("how", WRONG)
def test_what_is_wrong_is_told_where_it_is(tmp_path: Path, how: str) -> None:
    more, expected = WRONG[how]
    found = faults(tmp_path, more)
    assert any(each.startswith(expected) for each in found), found


@given(st.timedeltas(dt.timedelta(0), dt.timedelta(days=366)))
def test_a_span_comes_back_from_its_text(span: dt.timedelta) -> None:
    given_, back = Duration(), Duration()
    given_.FromTimedelta(span)
    read_span(back, span_text(given_))
    assert back == given_


@pytest.mark.parametrize(
    ("text", "seconds"), [("14d", 1_209_600), ("36h", 129_600), ("1.5h", 5_400), ("90m", 5_400)]
)
def test_spans_are_read_as_people_write_them(text: str, seconds: int) -> None:
    span = Duration()
    read_span(span, text)
    assert span.ToTimedelta() == dt.timedelta(seconds=seconds)
    for wrong in ("", "14", "14 d", "d", "-1d", "1d2h", "1.d", "1e3s"):
        with pytest.raises(ValueError, match="such as 14d"):
            read_span(span, wrong)


def kept(declared: Declared) -> Present:
    message = type(declared.message)()
    message.CopyFrom(stated(declared.kind, declared.resource_id, declared.message))
    message.name = f"projects/p/metrics/{declared.resource_id}"
    message.version, message.etag = 3, "3"
    return Present(declared.kind, declared.resource_id, message)


@pytest.mark.parametrize("name", ["metrics.yaml", "account-opening.yaml"])
def test_what_is_exported_differs_in_nothing(tmp_path: Path, name: str) -> None:
    for declared in load([EXAMPLES / name]):
        there = kept(declared)
        (back,) = read(tmp_path, document(there))
        assert make_plan([back], {declared.key: there}).steps == ()


def changed(declared: Declared, **fields: Any) -> Declared:
    message = type(declared.message)()
    message.CopyFrom(declared.message)
    for field, value in fields.items():
        setattr(message, field, value)
    return Declared(declared.kind, declared.resource_id, message, declared.place)


def test_a_changed_field_is_an_update_and_another_kind_is_refused(tmp_path: Path) -> None:
    (declared,) = read(tmp_path, METRIC)
    project = {declared.key: kept(declared)}
    plan = make_plan([changed(declared, event_name="sell")], project)
    assert [(step.action, step.fields) for step in plan.steps] == [("update", ("event_name",))]
    other = make_plan([changed(declared, kind=metric_pb2.METRIC_KIND_QUANTILE)], project)
    ((_, refusal),) = other.refused
    assert "another kind of metric is another metric" in refusal.reason


def test_only_prune_archives(tmp_path: Path) -> None:
    (declared,) = read(tmp_path, METRIC)
    project = {declared.key: kept(declared)}
    assert [step.action for step in make_plan([], project).steps] == ["keep"]
    pruned = make_plan([], project, prune=True)
    assert [verb for _, verb in in_phases(pruned)] == ["Archive"]


def test_metrics_come_before_the_experiments_that_name_them(tmp_path: Path) -> None:
    experiment = """
apiVersion: touchstone/v1
kind: Experiment
metadata: {name: green}
spec:
  metrics: [it]
  variants: [{key: a, weight: 5000}, {key: b, weight: 5000}]
"""
    declared = read(tmp_path, f"{experiment}---{METRIC}")
    assert ("Metric", "it") in needs_of(KINDS["Experiment"], declared[0].message)
    plan = make_plan(declared, {})
    assert [step.kind.name for step in plan.steps] == ["Metric", "Experiment"]


def test_what_says_nothing_says_the_default(tmp_path: Path) -> None:
    spare = METRIC.replace("RATIO", "FUNNEL")
    lavish = spare + (
        "  direction: INCREASE\n  role: SECONDARY\n  delay: 0s\n  aggregation: SUM\n"
        "  variance_reduction: {disabled: true}\n"
    )
    (one,), (other,) = read(tmp_path, spare), read(tmp_path, lavish)
    kind = KINDS["Metric"]
    assert (
        changed_fields(kind, stated(kind, "it", one.message), stated(kind, "it", other.message))
        == []
    )


def test_the_command_counts_metrics_and_tells_faults(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["metric", "validate", str(EXAMPLES / "metrics.yaml")])
    assert (done.exit_code, done.output) == (0, "8 metrics are right\n")
    (tmp_path / "it.yaml").write_text(METRIC + "  windw: 1d\n")
    wrong = CliRunner().invoke(app, ["metric", "validate", str(tmp_path)])
    assert wrong.exit_code == 1
    assert "it.yaml:8:3: there is no field 'windw'" in wrong.output
