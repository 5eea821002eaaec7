"""A quick version of the kill rounds: `make robustness` plays the long one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.robustness.scenario import SCENARIOS, Scenario, can_mount, play

KILL, RESEND, _TERMINATE, FULL = SCENARIOS
SEED = 20261121


def test_every_acknowledged_event_is_stored_once_whenever_the_process_is_killed(
    tmp_path: Path,
) -> None:
    verdict = play(KILL, "services.events", tmp_path, rounds=2, seed=SEED)
    assert verdict.holds, f"{verdict}, seed {SEED}"


@pytest.mark.parametrize(
    ("scenario", "rounds"), [(KILL, 1), (RESEND, 2)], ids=["early_ack", "forgetful"]
)
def test_the_check_fails_on_a_service_that_breaks_the_promise(
    scenario: Scenario, rounds: int, tmp_path: Path
) -> None:
    twin = f"tests.robustness.twins.{scenario.twin}"
    verdict = play(scenario, twin, tmp_path, rounds, SEED)
    assert not verdict.holds


@pytest.mark.skipif(not can_mount(), reason="only root can mount a small disk")
def test_a_full_disk_costs_no_acknowledged_event_and_heals_by_itself(tmp_path: Path) -> None:
    verdict = play(FULL, "services.events", tmp_path, rounds=1, seed=SEED)
    assert verdict.holds, f"{verdict}, seed {SEED}"
