"""Experiments as code against a real assignment service: plan, apply, refuse, prune, export."""

from __future__ import annotations

import json

import grpc
import pytest
from touchstone.assignment.v1 import assignment_service_pb2
from touchstone.common.v1.unit_pb2 import UnitId
from typer.testing import CliRunner

from services.cli.ascode.carry_out import carry_out
from services.cli.ascode.plan import make_plan
from services.cli.ascode.present import present
from services.cli.ascode.resources import load
from services.cli.main import app
from services.cli.session import open_session
from tests.client.assignment_rig import AssignmentProcess
from tests.robustness.faults import PROJECT

LAYERS = """
apiVersion: touchstone/v1
kind: UnitType
metadata: {name: user}
---
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
metadata: {name: nordic}
spec:
  condition: {compare: {attribute: country, operator: IN, values: [SE, "NO"]}}
---
apiVersion: touchstone/v1
kind: Layer
metadata: {name: checkout}
spec:
  parameters:
    - {key: colour, default_value: red, description: Of the button.}
---
apiVersion: touchstone/v1
kind: Domain
metadata: {name: inner}
spec: {layer: checkout, traffic_slots: 1000}
---
apiVersion: touchstone/v1
kind: Layer
metadata: {name: inside}
spec: {domain: inner, hash_version: FLAGD_V3}
---
apiVersion: touchstone/v1
kind: Holdout
metadata: {name: all-year}
spec: {slots: 500, experiments: [green]}
"""
EXPERIMENTS = """
apiVersion: touchstone/v1
kind: Experiment
metadata: {name: after}
spec:
  state: RUNNING
  value_type: INTEGER
  prerequisites: [{experiment: green, variants: [green]}]
  variants:
    - {key: few, weight: 2500, value: 3}
    - {key: many, weight: 7500, value: 9}
---
apiVersion: touchstone/v1
kind: Experiment
metadata: {name: green}
spec:
  state: RUNNING
  hypothesis: Green sells more.
  layer: checkout
  traffic_slots: 2000
  targeting:
    any:
      - {audience: nordic}
      - {negated: {compare: {attribute: country, operator: IS_SET}}}
  variants:
    - {key: control, weight: 5000}
    - {key: green, weight: 5000, payload: {colour: green}}
"""


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    process = AssignmentProcess(tmp_path_factory.mktemp("as-code") / "service")
    process.start()
    yield process
    process.kill()


@pytest.fixture(scope="module")
def touchstone(service):
    """Runs `touchstone experiment ...` against the service; the status, and what it said."""
    environment = {
        "TOUCHSTONE_API_KEY": service.key,
        "TOUCHSTONE_ASSIGNMENT_ADDRESS": service.address,
        "TOUCHSTONE_DATA": str(service.data),
    }

    def run(*arguments):
        return CliRunner(env=environment).invoke(
            app, ["experiment", *(str(each) for each in arguments)], catch_exceptions=False
        )

    return run


@pytest.fixture(scope="module")
def files(tmp_path_factory, touchstone):
    """A folder that was applied once."""
    folder = tmp_path_factory.mktemp("files")
    (folder / "layers.yaml").write_text(LAYERS)
    (folder / "experiments.yaml").write_text(EXPERIMENTS)
    before = touchstone("diff", folder, "-o", "json")
    assert before.exit_code == 3, before.output
    steps = {step["name"]: step for step in json.loads(before.stdout)["steps"]}
    assert {step["action"] for step in steps.values()} == {"create"}
    assert steps["green"]["movement"]["joining"] == 0.2
    done = touchstone("apply", folder)
    assert done.exit_code == 0, done.output
    assert "created Experiment green" in done.output
    assert "started Experiment after" in done.output
    return folder


def changed(files, tmp_path, old, new):
    """The same files with one text in another's place, in a folder of their own."""
    for file in files.glob("*.yaml"):
        text = file.read_text()
        (tmp_path / file.name).write_text(text.replace(old, new, 1))
    return tmp_path


def variants_of(service, experiment="green"):
    units = [
        assignment_service_pb2.UnitContext(ids=[UnitId(type="user", id=f"u{n}")])
        for n in range(5000)
    ]
    request = assignment_service_pb2.AssignRequest(units=units, experiments=[experiment])
    return [unit.decisions[0].variant for unit in service.assign("Assign", request).units]


def test_the_same_files_again_change_nothing(files, touchstone):
    again = touchstone("diff", files)
    assert (again.exit_code, again.stdout) == (0, ""), again.output
    done = touchstone("apply", files)
    assert (done.exit_code, done.output) == (0, "0 changes\n")


def test_what_is_exported_differs_in_nothing(files, touchstone, tmp_path):
    out = touchstone("export", "--folder", tmp_path)
    assert out.exit_code == 0, out.output
    assert touchstone("validate", tmp_path).exit_code == 0
    back = touchstone("diff", tmp_path)
    assert (back.exit_code, back.stdout) == (0, ""), back.output
    (tmp_path / "all.yaml").write_text(touchstone("export").stdout)
    whole = touchstone("diff", tmp_path / "all.yaml")
    assert (whole.exit_code, whole.output) == (0, ""), whole.output


WEIGHTS = "control, weight: {}}}\n    - {{key: green, weight: {}"
LAYER = "  layer: checkout\n"


@pytest.mark.parametrize(
    ("old", "new", "field", "reason"),
    [
        (LAYER, f"{LAYER}  salt: other\n", "salt", "shuffled"),
        (LAYER, "  unit_type: shop\n", "unit_type", "other units"),
        (LAYER, f"{LAYER}  hash_version: FLAGD_V3\n", "hash_version", "shuffled"),
        (LAYER, "", "layer", "other units"),
        (WEIGHTS.format(5000, 5000), WEIGHTS.format(4000, 6000), "variants", "10.00% of the units"),
        ("traffic_slots: 2000", "traffic_slots: 1500", "traffic_slots", "25.00% of the units"),
        ("state: RUNNING\n  hypo", "state: DRAFT\n  hypo", "state", "from RUNNING to DRAFT"),
        ("value_type: INTEGER", "value_type: FLOAT", "value_type", "fixed once it is RUNNING"),
    ],
)
def test_what_would_shuffle_units_is_refused_with_the_reason(
    files, touchstone, service, tmp_path, old, new, field, reason
):
    before = variants_of(service)
    folder = changed(files, tmp_path, old, new)
    seen = touchstone("diff", folder)
    assert seen.exit_code == 1, seen.output
    assert f": {field} " in seen.output
    assert reason in seen.output
    done = touchstone("apply", folder)
    assert done.exit_code == 1
    assert "nothing was changed" in done.output
    assert variants_of(service) == before


def test_more_traffic_moves_nobody_who_is_in_and_the_plan_says_how_many_join(
    files, touchstone, service, tmp_path
):
    before = variants_of(service)
    more = changed(files, tmp_path, "traffic_slots: 2000", "traffic_slots: 3000")
    seen = touchstone("diff", more, "-o", "json")
    assert seen.exit_code == 3
    (step,) = json.loads(seen.stdout)["steps"]
    movement = step["movement"]
    assert step["fields"] == ["traffic_slots"]
    assert (movement["enrolled"], movement["leaving"], movement["switching"]) == (0.2, 0.0, 0.0)
    assert movement["joining"] == pytest.approx(0.1)
    trial = touchstone("apply", more, "--dry-run")
    assert trial.exit_code == 0, trial.output
    assert variants_of(service) == before
    done = touchstone("apply", more)
    assert done.exit_code == 0, done.output
    after = variants_of(service)
    assert all(new == old for old, new in zip(before, after, strict=True) if old)
    joined = sum(1 for old, new in zip(before, after, strict=True) if new and not old)
    assert 0 < joined / len(after) < 2 * movement["joining"]
    (files / "experiments.yaml").write_text((more / "experiments.yaml").read_text())


def test_a_dropped_variant_lets_its_units_go_and_no_other(files, touchstone, service, tmp_path):
    before = variants_of(service)
    drop = changed(
        files, tmp_path, "payload: {colour: green}", "dropped: true, payload: {colour: green}"
    )
    seen = touchstone("diff", drop, "-o", "json")
    (step,) = json.loads(seen.stdout)["steps"]
    assert step["movement"]["leaving"] == pytest.approx(step["movement"]["enrolled"] / 2)
    assert touchstone("apply", drop).exit_code == 0
    after = variants_of(service)
    assert {(old, new) for old, new in zip(before, after, strict=True)} == {
        ("", ""), ("control", "control"), ("green", ""),
    }  # fmt: skip
    (files / "experiments.yaml").write_text((drop / "experiments.yaml").read_text())


def test_states_move_through_the_verbs(files, touchstone, service, tmp_path):
    pause = changed(files, tmp_path, "state: RUNNING\n  value_type", "state: PAUSED\n  value_type")
    done = touchstone("apply", pause)
    assert done.exit_code == 0, done.output
    assert "paused Experiment after" in done.output
    assert set(variants_of(service, "after")) == {""}
    assert "started Experiment after" in touchstone("apply", files).output


def test_what_changed_meanwhile_is_not_overwritten(files, touchstone, service, tmp_path):
    """The plan is made of what was read; a text that another wrote meanwhile is a difference."""
    service.experiments(
        "UpdateExperiment",
        experiment={"name": f"projects/{PROJECT}/experiments/after", "owner": "someone"},
        update_mask={"paths": ["owner"]},
    )
    seen = touchstone("diff", files, "-o", "json")
    assert [step["fields"] for step in json.loads(seen.stdout)["steps"]] == [["owner"]]
    assert touchstone("apply", files).exit_code == 0
    assert touchstone("diff", files).exit_code == 0


def test_a_change_between_the_plan_and_the_call_is_not_overwritten(
    service, touchstone, files, tmp_path, monkeypatch
):
    """The plan is old when it is carried out."""
    monkeypatch.setenv("TOUCHSTONE_API_KEY", service.key)
    monkeypatch.setenv("TOUCHSTONE_ASSIGNMENT_ADDRESS", service.address)
    wanted = changed(files, tmp_path, "hypothesis: Green sells more.", "hypothesis: It does.")
    with open_session(service.data) as session:
        plan = make_plan(load([wanted], session.project), present(session))
        assert [(step.name, step.fields) for step in plan.steps] == [
            ("Experiment green", ("hypothesis",))
        ]
        service.experiments(
            "UpdateExperiment",
            experiment={"name": f"projects/{PROJECT}/experiments/green", "owner": "someone"},
            update_mask={"paths": ["owner"]},
        )
        with pytest.raises(grpc.RpcError) as refused:
            carry_out(plan, session, print)
        assert refused.value.code() is grpc.StatusCode.ABORTED
    assert touchstone("apply", files).exit_code == 0


def test_only_prune_takes_away_and_what_runs_it_refuses(files, touchstone, tmp_path):
    fewer = tmp_path / "fewer.yaml"
    fewer.write_text(LAYERS)
    seen = touchstone("diff", fewer)
    assert seen.exit_code == 0, seen.output
    assert "2 resources of the project are in no file" in seen.output
    refused = touchstone("apply", fewer, "--prune")
    assert refused.exit_code == 1
    assert "lasts still" in refused.output
    both = tmp_path / "both"
    both.mkdir()
    changed(files, both, "state: DRAFT", "state: DRAFT")
    stop = both / "experiments.yaml"
    stop.write_text(stop.read_text().replace("state: RUNNING", "state: STOPPED"))
    assert touchstone("apply", both).exit_code == 0
    without = LAYERS.partition("---\napiVersion: touchstone/v1\nkind: Holdout")[0]
    left = touchstone("export")
    assert "left out: Experiment green: it is STOPPED" in left.output
    assert "left out: Holdout all-year: it names Experiment green" in left.output
    exported = tmp_path / "exported.yaml"
    exported.write_text(left.stdout)
    back = touchstone("diff", exported)
    assert (back.exit_code, back.stdout) == (0, ""), back.output
    fewer.write_text(without)
    done = touchstone("apply", fewer, "--prune")
    assert done.exit_code == 0, done.output
    assert "archived Experiment green" in done.output
    assert "ended Holdout all-year" in done.output
    assert touchstone("diff", fewer, "--prune").exit_code == 0


def test_faults_in_files_are_told_before_a_service_is_asked(touchstone, tmp_path):
    (tmp_path / "bad.yaml").write_text(EXPERIMENTS.replace("variants:", "varients:", 1))
    seen = touchstone("diff", tmp_path)
    assert seen.exit_code == 1
    assert "did you mean 'variants'?" in seen.output
