"""What a notebook claims: it computes nothing again that it would not find."""

import json
from dataclasses import replace

from services.results.domain.observation import Links
from services.results.domain.reading.report import ExperimentReport
from services.results.wire.export.notebook import encode_notebook
from tests.unit.results.reading import Lab, asked, shares


def words_and_metrics(report: ExperimentReport) -> tuple[str, int]:
    notebook = json.loads(encode_notebook(report, "p"))
    code = "".join("".join(cell["source"]) for cell in notebook["cells"][1:])
    return "".join(notebook["cells"][0]["source"]), code.count('"expected": {')


def test_where_ids_are_linked_nothing_is_computed_again() -> None:
    units = (1000, 500, 1100)
    made = Lab().read(units, [shares(units, (130, 50, 90))], [asked("visits")])
    words, metrics = words_and_metrics(made)
    assert metrics == 1
    assert "links ids" not in words
    assert "Not computed again" not in words
    linked = replace(made, observation=replace(made.observation, links=Links("policy 2")))
    words, metrics = words_and_metrics(linked)
    assert metrics == 0
    assert "links ids" in words
    assert "Not computed again: `visits`" in words
