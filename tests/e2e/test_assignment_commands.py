"""Commands about assignment against a real assignment service."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from touchstone.assignment.v1 import (
    assignment_service_pb2,
    audience_pb2,
    audience_service_pb2,
    audience_service_pb2_grpc,
    domain_pb2,
    domain_service_pb2,
    domain_service_pb2_grpc,
    experiment_pb2,
    layer_pb2,
    layer_service_pb2,
    layer_service_pb2_grpc,
)
from touchstone.common.v1.unit_pb2 import UnitId
from typer.testing import CliRunner

from services.cli.commands.audience import PART_IDS, parts_of
from services.cli.main import app
from shared.errors import Code, DomainError
from tests.client.assignment_rig import PARENT, AssignmentProcess, halves

FLAGS = {
    "flags": {
        "imported": {
            "state": "ENABLED",
            "variants": {"control": "control", "green": "green"},
            "defaultVariant": "control",
            "targeting": {"fractional": [["control", 50], ["green", 50]]},
        }
    }
}


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    process = AssignmentProcess(tmp_path_factory.mktemp("commands") / "service")
    process.start()
    yield process
    process.kill()


@pytest.fixture(scope="module")
def touchstone(service):
    """Runs `touchstone ...` against the service; the status, and what it said."""
    environment = {
        "TOUCHSTONE_API_KEY": service.key,
        "TOUCHSTONE_ASSIGNMENT_ADDRESS": service.address,
        # Every service knows the operations of all.
        "TOUCHSTONE_EVENTS_ADDRESS": service.address,
        "TOUCHSTONE_DATA": str(service.data),
        "COLUMNS": "200",
    }

    def run(*arguments):
        return CliRunner(env=environment).invoke(
            app, [str(each) for each in arguments], catch_exceptions=False
        )

    return run


def outcomes(found):
    return [flag["outcome"] for flag in json.loads(found.stdout)["flags"]]


def test_flags_that_were_taken_before_are_as_they_were(service, touchstone, tmp_path):
    file = tmp_path / "flags.json"
    file.write_text(json.dumps(FLAGS))
    first = touchstone("flags", "import", file, "-o", "json")
    assert (first.exit_code, outcomes(first)) == (0, ["draft"]), first.output
    for more in ((), ("--dry-run",)):
        again = touchstone("flags", "import", file, "-o", "json", *more)
        assert (again.exit_code, outcomes(again)) == (0, ["as it was"]), again.output
    name = f"{PARENT}/experiments/imported"
    service.experiments("StartExperiment", name=name)
    assert outcomes(touchstone("flags", "import", file, "-o", "json")) == ["as it was"]
    other = json.loads(json.dumps(FLAGS).replace("50", "25", 1))
    other["flags"]["imported"]["targeting"]["fractional"][1][1] = 75
    file.write_text(json.dumps(other))
    refused = touchstone("flags", "import", file, "-o", "json")
    assert (refused.exit_code, outcomes(refused)) == (3, ["not taken"])
    assert "exists; choose another id" in refused.stdout
    found = service.experiments("GetExperiment", name=name).experiment
    assert [variant.weight for variant in found.variants] == [5000, 5000]


def audience(service, name, **fields):
    request = audience_service_pb2.CreateAudienceRequest(
        parent=PARENT, audience_id=name, audience=audience_pb2.Audience(**fields)
    )
    service.call(audience_service_pb2_grpc.AudienceServiceStub, "CreateAudience", request)


def test_a_file_of_ids_takes_the_place_of_a_list(service, touchstone, tmp_path):
    audience(service, "vip", id_list=audience_pb2.IdList(unit_type="user"))
    file = tmp_path / "ids.txt"
    file.write_text("u1\r\nu2\n\nu 3\u2028x\nu1")
    done = touchstone("audience", "upload", "vip", file, "-o", "json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["id_list"]["count"] == "3"
    request = audience_service_pb2.TestAudienceRequest(name=f"{PARENT}/audiences/vip")
    for name in ("u1", "u2", "u 3\u2028x", "u3"):
        request.units.add().ids.add(type="user", id=name)
    stub = audience_service_pb2_grpc.AudienceServiceStub
    assert list(service.call(stub, "TestAudience", request).members) == [True, True, True, False]
    file.write_text("\n\n")
    empty = touchstone("audience", "upload", "vip", file)
    assert empty.exit_code == 2
    file.write_bytes(b"u1\n\xff\n")
    assert touchstone("audience", "upload", "vip", file).exit_code == 2
    assert touchstone("audience", "upload", "vip", tmp_path / "none").exit_code == 2
    assert list(service.call(stub, "TestAudience", request).members) == [True, True, True, False]


def test_salts_are_checked(service, touchstone):
    service.run("salted")
    done = touchstone("check", "salts", "-o", "json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert (found["salts"] >= 2, found["findings"]) == (True, [])
    # An alpha that chance alone keeps in one of three tries, with salts that chance made.
    tries = (str(1000 + 700 * number) for number in range(40))
    strict = ("check", "salts", "--alpha", "0.999999", "-o", "json", "--units")
    failed = next(done for n in tries if (done := touchstone(*strict, n)).exit_code)
    assert failed.exit_code == 3, failed.output
    findings = json.loads(failed.stdout)["findings"]
    assert findings
    for finding in findings:
        assert finding["first"].startswith("projects/")
        assert 0 < finding["p_value"] < 0.999999


def test_proportions_are_checked(service, touchstone):
    service.run("counted")
    few = touchstone("check", "sample-ratio", "counted")
    assert (few.exit_code, "too few units" in few.output) == (0, True)
    for start in range(0, 4000, 100):
        units = [
            assignment_service_pb2.UnitContext(ids=[UnitId(type="user", id=f"u{n}")])
            for n in range(start, start + 100)
        ]
        service.assign(
            "Assign", assignment_service_pb2.AssignRequest(units=units, experiments=["counted"])
        )
    done = touchstone("check", "sample-ratio", "counted", "-o", "csv")
    assert done.exit_code == 0, done.output
    assert "p-value" in done.stderr
    rows = [line.split(",") for line in done.stdout.splitlines()]
    assert [row[0] for row in rows] == ["variant", "off", "on"]
    assert sum(int(row[1]) for row in rows[1:]) >= 100


def test_holdouts_and_parameters_of_units_are_told(service, touchstone):
    holdout = domain_pb2.Holdout(slots=5000, experiments=[f"{PARENT}/experiments/held"])
    service.run("held")
    service.call(
        domain_service_pb2_grpc.DomainServiceStub,
        "CreateHoldout",
        domain_service_pb2.CreateHoldoutRequest(parent=PARENT, holdout_id="half", holdout=holdout),
    )
    names = [f"u{n}" for n in range(40)]
    told = json.loads(touchstone("check", "holdouts", *names, "-o", "json").stdout)
    out = [bool(unit["holdouts"]) for unit in told["units"]]
    assert {True, False} == set(out)
    decided = touchstone("assign", *names, "--experiment", "held", "-o", "csv").stdout
    assert [",holdout" in line for line in decided.splitlines()[1:]] == out
    layer = layer_pb2.Layer(parameters=[layer_pb2.Parameter(key="colour")])
    layer.parameters[0].default_value.string_value = "red"
    request = layer_service_pb2.CreateLayerRequest(parent=PARENT, layer_id="ui", layer=layer)
    service.call(layer_service_pb2_grpc.LayerServiceStub, "CreateLayer", request)
    found = touchstone("parameters", "u1", "user=u2", "--key", "colour", "-o", "csv")
    assert found.stdout.splitlines() == [
        "unit,parameter,value,experiment,variant",
        'user=u1,colour,"""red""",,',
        'user=u2,colour,"""red""",,',
    ]


def test_a_search_for_a_salt_is_followed_and_ended(service, touchstone):
    service.experiments(
        "CreateExperiment",
        parent=PARENT,
        experiment_id="draft",
        experiment=experiment_pb2.Experiment(variants=halves("off", "on")),
    )
    asked = ("experiment", "find-balanced-salt", "draft", "--conversion", "purchase")
    begun = touchstone(*asked, "--start", "2026-01-01", "-o", "csv")
    assert begun.exit_code == 0, begun.output
    operation = begun.stdout.splitlines()[1]
    assert f"touchstone operations cancel {operation}" in begun.stderr
    ended = touchstone("operations", "cancel", operation)
    assert ended.exit_code == 0, ended.output
    # There are no events of any unit to look at, unless the cancellation came before that.
    with pytest.raises(DomainError) as over:
        touchstone("operations", "wait", operation)
    assert over.value.code is Code.FAILED_PRECONDITION
    with pytest.raises(DomainError) as failed:
        touchstone(*asked, "--start", "2026-01-01", "--wait")
    assert failed.value.message.startswith("0 units of type 'user' were seen")
    assert touchstone(*asked, "--start", "yesterday").exit_code == 2


@given(
    st.lists(
        st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=9)
    )
)
def test_parts_hold_every_id_once_and_in_order(ids):
    lines = [f"{unit_id}\n" for unit_id in ids]
    assert [each for part in parts_of(lines) for each in part] == [each for each in ids if each]


def test_parts_are_as_small_as_a_call_takes_them():
    many = list(parts_of(f"u{n}\n" for n in range(2 * PART_IDS + 1)))
    assert [len(part) for part in many] == [PART_IDS, PART_IDS, 1]
    long = list(parts_of("é" * 128 + "\n" for _ in range(PART_IDS)))
    assert len(long) > 1
    for part in long:
        assert audience_service_pb2.UploadAudienceIdsRequest(ids=part).ByteSize() < 4_000_000
