"""The attribution service that ends when an analysis needs too much memory."""

from __future__ import annotations

import os

from shared.errors import DomainError
from tests.robustness.twins.replaced import replace


def give_up(_memory_limit_mb: int) -> DomainError:
    """Stands in for the error that says which limit was met."""
    os._exit(137)


if __name__ == "__main__":
    from services.attribution.composition import compose
    from services.attribution.settings import Settings
    from shared.server.run import run

    replace("shared.lake.failures", "_too_large", give_up)
    run(lambda: compose(Settings()))
