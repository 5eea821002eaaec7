"""The service takes the metrics of the documentation's files, and files and service agree on every
default: what was defined from a file differs from it in nothing.
"""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from services.cli.ascode.compare import changed_fields
from services.cli.ascode.present import stated
from services.cli.ascode.resources import load
from tests.contract.results_world import World, open_world
from tests.contract.test_results_metrics import KINDS, message

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
FILES = ("metrics.yaml", "account-opening.yaml")


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as found:
        yield found


async def test_what_was_defined_from_a_file_differs_from_it_in_nothing(world: World) -> None:
    for declared in load([EXAMPLES / name for name in FILES], "demo"):
        kind, name = declared.kind, declared.resource_id
        made = await world.owner.define(name, declared.message)
        differs = changed_fields(
            kind, stated(kind, name, made), stated(kind, name, declared.message)
        )
        assert differs == [], name
        sent = stated(kind, name, declared.message)
        sent.name = made.name
        paths = [field for field in kind.fields if field != "kind"]
        again = await world.owner.call(
            "UpdateMetric", metric=sent, update_mask=FieldMask(paths=paths)
        )
        made.version, made.etag = again.metric.version, again.metric.etag
        made.update_time.CopyFrom(again.metric.update_time)
        assert again.metric == made


async def test_files_and_service_agree_on_the_defaults_of_every_kind(world: World) -> None:
    (example,) = load([EXAMPLES / "metrics.yaml"], "demo")[:1]
    for kind in KINDS:
        wanted = message(kind)
        made = await world.owner.define(kind.lower(), wanted)
        differs = changed_fields(
            example.kind, stated(example.kind, "it", made), stated(example.kind, "it", wanted)
        )
        assert differs == [], kind
