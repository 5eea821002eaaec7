"""touchstone experiment validate, diff, apply, export: experiments as code."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from services.cli.ascode.build import ANY_PROJECT
from services.cli.ascode.faults import FaultyError
from services.cli.ascode.resources import Declared, load
from services.cli.failures import FAILED
from services.cli.terminal import say

Paths = Annotated[
    list[Path], typer.Argument(help="YAML files, or folders of them.", metavar="PATH")
]


def validate(paths: Paths) -> None:
    """Check files without a service: what they hold, and what they need of one another.

    Example: touchstone experiment validate experiments/
    """
    found = _loaded(paths)
    say(f"{len(found)} resources are right")


def _loaded(paths: list[Path], project: str = ANY_PROJECT) -> list[Declared]:
    try:
        return load(paths, project)
    except FaultyError as error:
        for line in error.lines():
            say(line)
        say(f"{len(error.faults)} faults")
        raise typer.Exit(FAILED) from error
