"""A call waits for fresh data for a part of its deadline, and never longer than is configured."""

from dataclasses import dataclass

import pytest

from shared.server.waiting import waiting_time_s


@dataclass
class Call:
    left_s: float | None

    def time_remaining(self) -> float | None:
        return self.left_s


@pytest.mark.parametrize(("left_s", "waits_s"), [(None, 20.0), (100.0, 20.0), (10.0, 8.0), (0, 0)])
def test_a_call_waits_for_a_part_of_what_it_has_left(left_s: float | None, waits_s: float) -> None:
    assert waiting_time_s(Call(left_s), 20.0) == waits_s
