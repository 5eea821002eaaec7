"""The events service whose backups do not wait until the tables hold what was acknowledged."""

from __future__ import annotations

import dataclasses
from typing import Any

from tests.robustness.twins.replaced import part, replace, serve

if __name__ == "__main__":
    right = part("services.events.composition.backup", "Installation")

    def impatient(**parts: Any) -> Any:
        """Stands in for what a backup is made of."""
        return dataclasses.replace(right(**parts), visible=lambda: 1 << 60)

    replace("services.events.composition.backup", "Installation", impatient)
    serve()
