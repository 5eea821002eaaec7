"""The reference page names everything that a user can set, ask or be told."""

import doctest
import re
from pathlib import Path

from touchstone.attribution.v1 import attribution_pb2 as pb
from touchstone.attribution.v1 import attribution_service_pb2 as service_pb

from services.attribution.domain.models import Output
from services.attribution.settings import Settings

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "attribution.md"
TEXT = PAGE.read_text()


def test_every_setting_and_its_default() -> None:
    own = {n: f for n, f in Settings.model_fields.items() if n.startswith("attribution_")}

    assert len(own) >= 5
    for name, field in own.items():
        row = re.search(rf"^\| `TOUCHSTONE_{name.upper()}` \| `?([^`|]+?)`? \|", TEXT, re.MULTILINE)
        assert row is not None, f"{name} is not in the reference"
        assert row.group(1) == str(field.default), name


def test_every_rpc_output_repeat_rule_and_warning() -> None:
    service = service_pb.DESCRIPTOR.services_by_name["AttributionService"]
    names = [f"AttributionService.{method.name}" for method in service.methods]
    names += [output.value for output in Output]
    names += pb.RepeatRule.keys()[1:]
    names += [name.removeprefix("WARNING_KIND_") for name in pb.WarningKind.keys()[1:]]

    assert [name for name in names if f"`{name}`" not in TEXT] == []


def test_the_examples_run() -> None:
    failed, attempted = doctest.testfile(str(PAGE), module_relative=False)

    assert (failed, attempted > 0) == (0, True)
