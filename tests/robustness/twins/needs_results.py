"""The assignment service that asks results before it decides."""

from __future__ import annotations

import socket
from typing import Any

from services.assignment.settings import Settings
from shared.errors import unavailable
from tests.robustness.twins.replaced import part, replace_method, serve_assignment

MODULE = "services.assignment.composition.assignment"

if __name__ == "__main__":
    right = part(MODULE, "AssignmentServicer").Assign
    host, port = Settings().results_address.rsplit(":", 1)

    async def assign(self: Any, request: Any, context: Any) -> Any:
        """Stands in for Assign."""
        try:
            socket.create_connection((host, int(port)), 1).close()
        except OSError as error:
            raise unavailable("DEPENDENCY_UNAVAILABLE", "results is away") from error
        return await right(self, request, context)

    replace_method(MODULE, "AssignmentServicer", "Assign", assign)
    serve_assignment()
