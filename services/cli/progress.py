"""Progress on standard error."""

from __future__ import annotations

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from services.cli.terminal import messages


def progress_bar() -> Progress:
    """A bar on standard error: moving on a terminal, its last state elsewhere."""
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=messages(),
    )


def share_bar() -> Progress:
    """A bar of how much of a task is done, from 0 to 1, with its field `told` beside it; only on
    a terminal.
    """
    console = messages()
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[told]}", markup=False),
        TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
    )
