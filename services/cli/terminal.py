"""The two streams: data on standard output, everything else on standard error."""

from __future__ import annotations

import sys
import unicodedata

from rich.console import Console
from rich.text import Text

_UNSAFE_CATEGORIES = frozenset(("Cc", "Cf", "Co", "Cs", "Zl", "Zp"))


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
