"""The two streams: data on standard output, everything else on standard error."""

from __future__ import annotations

import os
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import typer
from rich.console import Console
from rich.text import Text

from shared.errors import failed_precondition

_UNSAFE_CATEGORIES = frozenset(("Cc", "Cf", "Co", "Cs", "Zl", "Zp"))


BROKEN_PIPE = 141


@contextmanager
def standard_output() -> Iterator[TextIO]:
    """Standard output, flushed at the end. A reader that went away, as `head` does, ends the
    command quietly, with the status that a shell gives such a program.

    Raises FAILED_PRECONDITION when it cannot be written for another reason.
    """
    try:
        yield sys.stdout
        sys.stdout.flush()
    except OSError as error:
        # What is still in the buffer would fail again at the end of the process.
        with Path(os.devnull).open("w") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            raise typer.Exit(BROKEN_PIPE) from error
        raise failed_precondition(
            "OUTPUT_LOST",
            f"standard output cannot be written ({error.strerror}); what was asked for is done, "
            "and its answer is lost: make room, or write it elsewhere",
        ) from error


def printable(text: str) -> str:
    """The text with every control character escaped: none may move the cursor, recolour or
    reorder what a terminal shows.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escaped(character) for character in text)


def _escaped(character: str) -> str:
    if unicodedata.category(character) not in _UNSAFE_CATEGORIES:
        return character
    return character.encode("unicode_escape").decode()


def say(text: str) -> None:
    """A line for the person, on standard error."""
    sys.stderr.write(printable(text) + "\n")
    sys.stderr.flush()


def warn(text: str) -> None:
    """A line that should not be overlooked, on standard error."""
    messages().print(Text.assemble(("warning: ", "bold yellow"), printable(text)), soft_wrap=True)


def messages() -> Console:
    """Standard error as rich draws on it: no colour and no motion when it is not a terminal."""
    return Console(stderr=True, highlight=False)
