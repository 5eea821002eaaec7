"""The events service by a clock that a test sets: so many seconds from the right time as the file
TOUCHSTONE_TEST_CLOCK says."""

from __future__ import annotations

import datetime as dt
import os
from pathlib import Path

from shared.clock import SystemClock
from tests.robustness.twins.replaced import replace, serve


class SteppingClock(SystemClock):
    """The machine's clock, moved."""

    def now(self) -> dt.datetime:
        ahead_s = float(Path(os.environ["TOUCHSTONE_TEST_CLOCK"]).read_text() or 0)
        return super().now() + dt.timedelta(seconds=ahead_s)


def step_clock() -> None:
    """Let the program read such a clock."""
    replace("shared.server.platform", "SystemClock", SteppingClock)


if __name__ == "__main__":
    step_clock()
    serve()
