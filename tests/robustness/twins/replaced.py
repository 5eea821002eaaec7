"""Replace one part of the program in the process of a twin."""

from __future__ import annotations

import importlib
from typing import Any


def part(module: str, name: str) -> Any:
    """A part of the program, by the module that uses it.

    AssertionError when there is no such part any more: the twin would then be whole.
    """
    holder = importlib.import_module(module)
    assert hasattr(holder, name), f"{module} has no {name}: the twin needs to be written anew"
    return getattr(holder, name)


def replace(module: str, name: str, broken: Any) -> None:
    """Put something else where a module looks a name up."""
    part(module, name)
    setattr(importlib.import_module(module), name, broken)


def replace_method(module: str, owner: str, name: str, broken: Any) -> None:
    """Put something else for a method of a class that a module uses."""
    found = part(module, owner)
    assert hasattr(found, name), f"{owner} has no {name}: the twin needs to be written anew"
    setattr(found, name, broken)


def serve() -> None:
    """Serve as `python -m services.events` does."""
    from services.events.composition import compose
    from services.events.settings import Settings
    from shared.server.run import run

    run(lambda: compose(Settings()))


def serve_assignment() -> None:
    """Serve as `python -m services.assignment` does."""
    from services.assignment.composition import compose
    from services.assignment.settings import Settings
    from shared.server.run import run

    run(lambda: compose(Settings()))


def serve_attribution() -> None:
    """Serve as `python -m services.attribution` does."""
    from services.attribution.composition import compose
    from services.attribution.settings import Settings
    from shared.server.run import run

    run(lambda: compose(Settings()))
