"""touchstone doctor: is everything well, and what to do where it is not."""

from __future__ import annotations

import typer

from services.cli.checkup import check_all
from services.cli.failures import FAILED
from services.cli.options import Data, Output
from services.cli.rendering import Format, View, columns, write
from services.cli.settings import read_settings
from shared.clock import SystemClock


def doctor(data: Data = None, output: Output = Format.TABLE) -> None:
    """Check program, data folder, key, services, clock, disk and audit log; exit 1 if one fails."""
    checks = list(check_all(read_settings(data), SystemClock()))
    document = {
        "checks": [
            {"name": c.name, "ok": c.ok, "found": c.found, "advice": "" if c.ok else c.advice}
            for c in checks
        ]
    }
    rows = [(c.name, "ok" if c.ok else "failed", c.found, "" if c.ok else c.advice) for c in checks]
    write(View(document, columns("check", "status", "found", "what to do"), rows), output)
    if not all(c.ok for c in checks):
        raise typer.Exit(FAILED)
