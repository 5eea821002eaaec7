"""The events service that forgets an event id as soon as its event is stored."""

from __future__ import annotations

from typing import Any

from services.events.domain.dedupe import DedupeWindow, Run
from tests.robustness.twins.replaced import replace, serve


class Forgets(DedupeWindow[Any]):
    """Knows the ids that are being stored at this moment, and no others."""

    def confirm(self, fingerprints: Any) -> None:
        self.release(fingerprints)

    def load(self, run: Run) -> None:
        """Nothing is known from before."""


if __name__ == "__main__":
    replace("services.events.composition.core", "DedupeWindow", Forgets)
    serve()
