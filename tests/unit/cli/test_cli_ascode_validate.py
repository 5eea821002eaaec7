"""Experiments as code, without a service: what is right, and what is wrong and where."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
import yaml
from typer.testing import CliRunner

from services.cli.ascode.faults import FaultyError
from services.cli.ascode.json_schema import SCHEMA, json_schema, text
from services.cli.ascode.resources import Declared, load
from services.cli.main import app

WHOLE = """
apiVersion: touchstone/v1
kind: UnitType
metadata: {name: shop}
spec: {display_name: Shops}
---
apiVersion: touchstone/v1
kind: Attribute
metadata: {name: country}
spec: {type: STRING}
---
apiVersion: touchstone/v1
kind: Audience
metadata: {name: staff}
spec:
  condition: {compare: {attribute: country, operator: IN, values: [SE, "NO"]}}
---
apiVersion: touchstone/v1
kind: Audience
metadata: {name: early}
spec: {id_list: {unit_type: user}}
---
apiVersion: touchstone/v1
kind: Layer
metadata: {name: checkout}
spec:
  kind: EXPERIMENT
  parameters:
    - {key: colour, default_value: red}
---
apiVersion: touchstone/v1
kind: Domain
metadata: {name: inner}
spec: {layer: checkout, traffic_slots: 1000}
---
apiVersion: touchstone/v1
kind: Experiment
metadata: {name: green}
spec:
  state: RUNNING
  layer: checkout
  traffic_slots: 2000
  value_type: INTEGER
  targeting:
    all:
      - {negated: {audience: staff}}
      - any:
          conditions:
            - {compare: {attribute: country, operator: IS_SET}}
  variants:
    - {key: control, weight: 5000, value: 1}
    - {key: green, weight: 5000, value: 2, payload: {colour: green, from: 2026-01-01}}
  schedule:
    stop_time: 2027-01-01T00:00:00Z
    ramp: [{time: 2026-12-01T00:00:00+01:00, traffic_slots: 4000}]
  metrics: [revenue]
---
apiVersion: touchstone/v1
kind: Holdout
metadata: {name: all-year}
spec: {slots: 500, layers: [checkout], experiments: [green]}
"""
EXPERIMENT = """
apiVersion: touchstone/v1
kind: Experiment
metadata: {name: green}
spec:
  variants:
    - {key: control, weight: 5000}
    - {key: green, weight: 5000}
"""


def read(tmp_path: Path, content: str) -> list[Declared]:
    file = tmp_path / "it.yaml"
    file.write_text(content)
    return load([file])


def faults(tmp_path: Path, content: str) -> list[str]:
    with pytest.raises(FaultyError) as caught:
        read(tmp_path, content)
    found = caught.value.faults
    return [f"{fault.place.line}:{fault.place.column} {fault.message}" for fault in found]


def test_every_kind_is_read_as_its_message(tmp_path: Path) -> None:
    found = {declared.key: declared.message for declared in read(tmp_path, WHOLE)}
    assert len(found) == 8
    green = found[("Experiment", "green")]
    assert green.layer == "projects/project/layers/checkout"
    assert green.metrics == ["projects/project/metrics/revenue"]
    assert green.targeting.all.conditions[0].negated.audience == "projects/project/audiences/staff"
    assert green.targeting.all.conditions[1].any.conditions[0].compare.attribute == "country"
    assert green.variants[1].payload["from"] == "2026-01-01"
    assert green.variants[1].value.number_value == 2
    assert green.schedule.ramp[0].time.ToJsonString() == "2026-11-30T23:00:00Z"
    assert found[("Layer", "checkout")].parameters[0].default_value.string_value == "red"
    assert found[("Audience", "early")].HasField("id_list")


def changed(old: str, new: str, of: str = EXPERIMENT) -> str:
    assert old in of
    return of.replace(old, new, 1)


WRONG: dict[str, tuple[str, str]] = {
    "a key twice": (
        changed("spec:", "spec:\n  sticky: true\n  sticky: false"),
        "7:3 key 'sticky' is there twice, first in line 6; keep one",
    ),
    "an unknown field": (
        changed("variants:", "varients:"),
        "6:3 there is no field 'varients'; did you mean 'variants'?",
    ),
    "a field that the service sets": (
        changed("spec:", "spec:\n  start_time: 2026-01-01T00:00:00Z"),
        "6:3 there is no field 'start_time'",
    ),
    "an unknown kind": (
        changed("Experiment", "Experimant"),
        "3:7 there is no kind 'Experimant'; did you mean 'Experiment'?",
    ),
    "another version": (
        changed("touchstone/v1", "touchstone/v2"),
        "2:13 apiVersion is 'touchstone/v2'; allowed: 'touchstone/v1'",
    ),
    "an id that is none": (changed("green", "Green"), "4:18 metadata.name is 'Green'; allowed: "),
    "no name": (changed("{name: green}", "{}"), "4:11 metadata.name is missing"),
    "a number that is a text": (
        changed("weight: 5000", 'weight: "5000"'),
        '7:30 variants[0].weight is "5000"; allowed: a whole number',
    ),
    "an octal number": (
        changed("weight: 5000", "weight: 05000"),
        '7:30 variants[0].weight is "05000"; allowed: a whole number',
    ),
    "a boolean that YAML reads from a word": (
        changed("spec:", "spec:\n  sticky: yes"),
        '6:11 sticky is "yes"; allowed: true or false; put text in quotes',
    ),
    "a text that YAML reads as a boolean": (
        changed("spec:", "spec:\n  owner: no"),
        '6:10 owner is "no"; allowed: text; put it in quotes',
    ),
    "an enum that is none": (
        changed("spec:", "spec:\n  value_type: INT"),
        '6:15 value_type is "INT"; allowed: KEY, BOOLEAN, STRING, INTEGER, FLOAT, OBJECT',
    ),
    "an archived one": (
        changed("spec:", "spec:\n  state: ARCHIVED"),
        '6:10 state is "ARCHIVED"; allowed: DRAFT, RUNNING, PAUSED, STOPPED',
    ),
    "a time without its offset": (
        changed("spec:", "spec:\n  schedule: {stop_time: 2026-01-01}"),
        "6:25 schedule.stop_time is",
    ),
    "weights that do not sum up": (
        changed("weight: 5000", "weight: 4000"),
        "6:3 variants have the weights [4000, 5000], a sum of 9000; allowed: 10000",
    ),
    "a key of a variant twice": (
        changed("key: green", "key: control"),
        "6:3 variants hold the key 'control' 2 times",
    ),
    "a control that is none": (
        changed("spec:", "spec:\n  control_variant: blue"),
        "6:3 control_variant is 'blue'; allowed: the key of a variant",
    ),
    "a reserved key": (changed("key: control", "key: default"), "7:8 variants[0].key is 'default'"),
    "a value that does not fit": (
        changed("spec:", "spec:\n  value_type: BOOLEAN"),
        "8:7 variants[0] has no value that fits; allowed: one of type BOOLEAN",
    ),
    "beyond the contract": (
        changed("spec:", "spec:\n  traffic_slots: 10001"),
        "6:3 traffic_slots is 10001",
    ),
    "two of a choice": (
        changed(
            "spec:",
            "spec:\n  targeting: {audience: a, compare: {attribute: b, operator: IS_SET}}",
        ),
        "6:28 compare stands beside audience; keep one of them",
    ),
    "a list that is none": (changed("spec:", "spec:\n  metrics: a"), '6:12 metrics is "a"'),
    "no YAML": ("kind: [", "1:8 this is no YAML"),
    "a tag": (changed("control,", "!!python/object:os.system control,"), "7:13 variants[0].key is"),
    "a circle of prerequisites": (
        changed("spec:", "spec:\n  prerequisites: [{experiment: blue}]")
        + "---"
        + changed("spec:", "spec:\n  prerequisites: [{experiment: green}]").replace(
            "{name: green}", "{name: blue}"
        ),
        "3:7 these need one another in a circle: Experiment green -> Experiment blue",
    ),
    "the same one twice": (EXPERIMENT + "---" + EXPERIMENT, "11:7 Experiment 'green' is declared"),
    "a layer of another unit": (
        WHOLE.replace("  layer: checkout\n  traffic_slots: 2000", "  layer: checkout\n"
                      "  unit_type: shop\n  traffic_slots: 2000"),
        "unit_type is 'shop', and its layer 'checkout' cuts 'user'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("how", WRONG)
def test_what_is_wrong_is_told_where_it_is(tmp_path: Path, how: str) -> None:
    content, expected = WRONG[how]
    found = faults(tmp_path, content)
    assert any(expected in each for each in found), found


def test_an_alias_of_what_it_is_in_is_refused(tmp_path: Path) -> None:
    assert "nested too deep" in faults(tmp_path, "kind: &a [*a]")[0]


def test_everything_is_told_at_once_with_the_line_and_a_caret(tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text(EXPERIMENT.replace("variants", "varients"))
    (tmp_path / "two.yml").write_text(EXPERIMENT.replace("kind", "kindd"))
    (tmp_path / "notes.txt").write_text("not looked at")
    done = CliRunner().invoke(app, ["experiment", "validate", str(tmp_path)])
    assert done.exit_code == 1
    assert "\n    varients:\n    ^\n" in done.output
    assert "one.yaml:6:3: there is no field" in done.output
    assert "two.yml:3:1: there is no key 'kindd'; did you mean 'kind'?" in done.output


def test_right_files_are_counted(tmp_path: Path) -> None:
    (tmp_path / "it.yaml").write_text(WHOLE)
    done = CliRunner().invoke(app, ["experiment", "validate", str(tmp_path)])
    assert (done.exit_code, done.output) == (0, "8 resources are right\n")


def test_a_path_that_is_not_there_is_wrong_usage(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["experiment", "validate", str(tmp_path / "none")])
    assert done.exit_code == 2
    empty = CliRunner().invoke(app, ["experiment", "validate", str(tmp_path)])
    assert empty.exit_code == 2


def schema_says(content: str) -> bool:
    validator = jsonschema.Draft202012Validator(json_schema())
    documents = [json.loads(json.dumps(each, default=str)) for each in yaml.safe_load_all(content)]
    return all(validator.is_valid(each) for each in documents)


def test_the_schema_for_editors_is_that_of_the_contracts() -> None:
    assert SCHEMA.read_text() == text(), "run python -m services.cli.ascode.json_schema"
    schema: dict[str, Any] = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)


def test_the_schema_for_editors_takes_what_is_right() -> None:
    assert schema_says(WHOLE)


@pytest.mark.parametrize(
    "how",
    ["an unknown field", "an unknown kind", "another version", "an id that is none", "no name",
     "a number that is a text", "an enum that is none", "an archived one", "beyond the contract",
     "a list that is none", "a text that YAML reads as a boolean"],
)  # fmt: skip
def test_the_schema_for_editors_sees_what_is_wrong(how: str) -> None:
    assert not schema_says(WRONG[how][0])


def test_the_example_of_the_guide_is_right(tmp_path: Path) -> None:
    guide = Path(__file__).parents[3] / "docs" / "how-to" / "experiments-as-code.md"
    example = guide.read_text().split("```yaml\n")[1].partition("```")[0]
    found = [declared.key for declared in read(tmp_path, example)]
    assert found == [("Layer", "checkout"), ("Experiment", "green-button")]
    assert schema_says(example)
