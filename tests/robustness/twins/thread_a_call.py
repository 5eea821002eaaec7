"""The events service that keeps threads for a while after each call."""

from __future__ import annotations

import threading
import time
from typing import Any

from tests.robustness.twins.replaced import part, replace_method, serve

if __name__ == "__main__":
    right = part("services.events.composition", "EventsServicer").LogEvents

    async def log_events(self: Any, request: Any, context: Any) -> Any:
        """Stands in for LogEvents."""
        for _ in range(10):
            threading.Thread(target=time.sleep, args=(20,), daemon=True).start()
        return await right(self, request, context)

    replace_method("services.events.composition", "EventsServicer", "LogEvents", log_events)
    serve()
