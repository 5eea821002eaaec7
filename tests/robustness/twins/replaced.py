"""Replace one part of the program in the process of a twin."""

from __future__ import annotations

import importlib
from typing import Any


def replace(module: str, name: str, broken: Any) -> Any:
    """Put something else where a module looks a name up; what stood there.

    AssertionError when the program has no such part any more: the twin would then be whole.
    """
    holder = importlib.import_module(module)
    assert hasattr(holder, name), f"{module} has no {name}: the twin needs to be written anew"
    before = getattr(holder, name)
    setattr(holder, name, broken)
    return before


def serve() -> None:
    """Serve as `python -m services.events` does."""
    from services.events.composition import compose
    from services.events.settings import Settings
    from shared.server.run import run

    run(lambda: compose(Settings()))
