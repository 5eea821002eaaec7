"""Every example of the guide to metrics is one that the service takes."""

import re
from pathlib import Path

import pytest
from touchstone.results.v1 import metric_pb2

from services.cli.ascode.resources import load
from services.results.wire.definition_decode import decode_definition

GUIDE = Path(__file__).parents[3] / "docs" / "how-to" / "metrics.md"
EXAMPLES = re.findall(r"```yaml\n(.*?)```", GUIDE.read_text(), re.DOTALL)


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_an_example_is_taken(tmp_path: Path, number: int) -> None:
    (tmp_path / "it.yaml").write_text(EXAMPLES[number])
    (declared,) = load([tmp_path / "it.yaml"])
    assert decode_definition(declared.message).kind.name in EXAMPLES[number]


def test_every_kind_has_one() -> None:
    for number, kind in metric_pb2.MetricKind.items():
        short = number.removeprefix("METRIC_KIND_")
        assert not kind or any(f"kind: {short}\n" in example for example in EXAMPLES), short
