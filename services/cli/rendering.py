"""One answer in three forms: a table to read, JSON for a program, CSV for a sheet."""

from __future__ import annotations

import csv
import enum
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TextIO, TypeAlias

from google.protobuf import json_format
from google.protobuf.message import Message
from rich.console import Console
from rich.table import Table
from rich.text import Text

from services.cli.terminal import printable, standard_output

Cell: TypeAlias = str | int | float | bool | None

_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
_NO_LIMIT = 100_000
_FORMULA = ("=", "+", "-", "@")


class Format(enum.StrEnum):
    """The form of the answer on standard output."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its heading, and how a table shows its cells. CSV holds them in full."""

    name: str
    show: Callable[[Cell], str] | None = None
    right: bool = False


@dataclass(frozen=True, slots=True)
class View:
    """An answer: the message as the service gave it, and its rows."""

    document: Message | Mapping[str, object]
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    title: str = ""
    # What a table shows instead, when the whole is too wide to read.
    brief: tuple[Sequence[Column], Sequence[Sequence[Cell]]] | None = None


def columns(*names: str) -> tuple[Column, ...]:
    """Plain columns."""
    return tuple(Column(name) for name in names)


def write(view: View, form: Format, out: TextIO | None = None, *, header: bool = True) -> None:
    """Writes the answer to standard output, or to `out`; more of the same CSV has no header."""
    if out is None:
        with standard_output() as stream:
            write(view, form, stream, header=header)
        return
    stream = out
    if form is Format.JSON:
        stream.write(json_text(view.document) + "\n")
    elif form is Format.CSV:
        _write_csv(view, stream, header)
    else:
        print_table(view, stream)
    stream.flush()


def json_text(document: Message | Mapping[str, object], indent: int | None = 2) -> str:
    """JSON that stays the same from version to version: a message by the protobuf mapping with
    the field names of the contract, every field present; ASCII, so that it shows as it is. Without
    an indent it is one line.
    """
    if not isinstance(document, Message):
        return json.dumps(document, indent=indent, allow_nan=False)
    return json_format.MessageToJson(
        document,
        preserving_proto_field_name=True,
        always_print_fields_with_no_presence=True,
        ensure_ascii=True,
        indent=indent,
    )


def neutral(cell: Cell) -> str:
    """A CSV cell that a spreadsheet takes for what it is: text that looks like a formula gets an
    apostrophe before it; a plain number does not.
    """
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, int | float):
        return repr(cell)
    text = printable(cell)
    if text.startswith(_FORMULA) and not _NUMBER.fullmatch(text):
        return f"'{text}"
    return text


def print_table(view: View, stream: TextIO) -> None:
    """Prints the rows for a person."""
    title = Text(printable(view.title)) if view.title else None
    table = Table(title=title, title_justify="left", title_style="bold")
    shown, rows = view.brief or (view.columns, view.rows)
    for column in shown:
        justify: Literal["left", "right"] = "right" if column.right else "left"
        table.add_column(Text(printable(column.name)), justify=justify, overflow="fold")
    for row in rows:
        cells = (_shown(cell, column) for cell, column in zip(row, shown, strict=True))
        table.add_row(*(Text(cell) for cell in cells))
    console = Console(file=stream, highlight=False)
    if not console.is_terminal:
        # A file or a pipe has no width: nothing is cut off.
        room = console.options.update(max_width=_NO_LIMIT)
        console.width = max(console.width, console.measure(table, options=room).maximum)
    console.print(table)


def _write_csv(view: View, stream: TextIO, header: bool) -> None:
    writer = csv.writer(stream, lineterminator="\n")
    if header:
        writer.writerow([column.name for column in view.columns])
    writer.writerows([neutral(cell) for cell in row] for row in view.rows)


def _shown(cell: Cell, column: Column) -> str:
    if cell is None:
        return "-"
    if column.show is not None and not isinstance(cell, str):
        return column.show(cell)
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    return f"{cell:.6g}" if isinstance(cell, float) else printable(str(cell))
