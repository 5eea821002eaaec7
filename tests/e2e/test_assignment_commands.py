"""Commands about assignment against a real assignment service."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from services.cli.main import app
from tests.client.assignment_rig import PARENT, AssignmentProcess

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
