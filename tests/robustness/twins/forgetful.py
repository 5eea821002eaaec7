"""The events service with a dedupe window that a restart empties."""

from __future__ import annotations

from services.events.composition import compose
from services.events.settings import Settings
from shared.server.run import run


def remember_nothing(*_arguments: object) -> None:
    """Stands in for the rebuild of the window."""


if __name__ == "__main__":
    run(lambda: compose(Settings(), fill_window=remember_nothing))
