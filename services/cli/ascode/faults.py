"""What is wrong in a file, shown where it is."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

import yaml

_SHOWN = 100
_WIDEST = 120


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """A line and a column of a file, counted from 1, with the text of the line."""

    file: str
    line: int
    column: int
    text: str = ""


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """One thing that is wrong: what it is, and what is allowed."""

    place: Place
    message: str

    def lines(self) -> list[str]:
        """As a person reads it: file:line:column, and the line with a caret below the column."""
        shown = [f"{self.place.file}:{self.place.line}:{self.place.column}: {self.message}"]
        if self.place.text and self.place.column <= _WIDEST:
            shown.append(f"  {self.place.text[:_WIDEST]}")
            shown.append("  " + " " * (self.place.column - 1) + "^")
        return shown


class FaultyError(Exception):
    """Files that are not right, with every fault that was found."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = sorted(set(faults))
        super().__init__(f"{len(self.faults)} faults")

    def lines(self) -> list[str]:
        """Every fault, up to a hundred."""
        shown = [line for fault in self.faults[:_SHOWN] for line in fault.lines()]
        if (more := len(self.faults) - _SHOWN) > 0:
            shown.append(f"and {more} more")
        return shown


class Text:
    """A file's text, from which places are made."""

    def __init__(self, file: str, content: str) -> None:
        self._file = file
        self._lines = content.splitlines()

    def at(self, mark: yaml.Mark | None) -> Place:
        """The place of a mark."""
        if mark is None:
            return Place(self._file, 1, 1)
        text = self._lines[mark.line] if mark.line < len(self._lines) else ""
        return Place(self._file, mark.line + 1, mark.column + 1, text)


def unknown(what: str, given: str, known: Iterable[str]) -> str:
    """A name that there is not, with the one that was probably meant."""
    names = sorted(known)
    near = difflib.get_close_matches(given, names, 1, 0.6)
    meant = f"; did you mean {near[0]!r}?" if near else ""
    return f"there is no {what} {given!r}{meant} allowed: {', '.join(names)}".replace(
        f"{given!r} allowed", f"{given!r}; allowed"
    )
