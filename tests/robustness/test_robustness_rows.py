"""The rows of the table of faults, shortly: `make robustness` plays them at length."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.robustness.__main__ import explained
from tests.robustness.catalogue import FAULTS
from tests.robustness.fault import SERVICE, Fault, Play

SEED = 20261121
SHORT = [fault for fault in FAULTS if fault.short]


def skip_what_lacks(fault: Fault) -> None:
    """Skip with the reason when this machine cannot play the row."""
    if lacks := fault.lacks():
        pytest.skip(lacks)


@pytest.mark.parametrize("fault", SHORT, ids=lambda fault: f"row{fault.row}")
def test_a_fault_breaks_no_promise(fault: Fault, tmp_path: Path) -> None:
    skip_what_lacks(fault)
    verdict = fault.run(Play(tmp_path, SERVICE, fault.short, SEED))
    assert verdict.holds, f"{fault.command(fault.short, SEED)}\n{explained(verdict)}"


@pytest.mark.parametrize(
    ("fault", "twin"),
    [(fault, twin) for fault in SHORT for twin in fault.twins if twin not in fault.long_twins],
    ids=lambda value: value if isinstance(value, str) else f"row{value.row}",
)
def test_a_service_that_breaks_the_promise_is_caught(
    fault: Fault, twin: str, tmp_path: Path
) -> None:
    skip_what_lacks(fault)
    module = f"tests.robustness.twins.{twin}"
    verdict = fault.run(Play(tmp_path, module, fault.twins[twin], SEED))
    assert not verdict.holds, f"{twin} kept every promise: {verdict}"
