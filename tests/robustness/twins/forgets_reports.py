"""The attribution service that leaves alone what a crash left unfinished."""

from __future__ import annotations

from typing import Any

from tests.robustness.twins.replaced import part, replace_method, serve_attribution

MODULE = "services.attribution.composition"

if __name__ == "__main__":
    right = part(MODULE, "OperationRunner").begin
    begun: set[str] = set()

    def begin(self: Any, connection: Any, what: Any) -> Any:
        """Stands in for the beginning of an operation."""
        operation = right(self, connection, what)
        begun.add(operation.name)
        return operation

    attempt = part(MODULE, "OperationRunner")._work

    def work(self: Any, operation: Any) -> None:
        """Stands in for the work on an operation."""
        if operation.name in begun:
            attempt(self, operation)

    replace_method(MODULE, "OperationRunner", "begin", begin)
    replace_method(MODULE, "OperationRunner", "_work", work)
    serve_attribution()
