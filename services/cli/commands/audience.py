"""touchstone audience: audiences by id list."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Annotated, TextIO

import typer
from touchstone.assignment.v1 import audience_service_pb2 as pb

from services.cli.options import Data, Etag, Output
from services.cli.rendering import Column, Format, View, columns, write
from services.cli.session import open_session
from services.cli.terminal import say
from shared.ids import RandomIds

app = typer.Typer(no_args_is_help=True, help="Audiences by id list.")

PART_IDS, PART_BYTES = 50_000, 2_000_000
"""The most of one part: a call takes so many ids, and a message four million bytes."""
_COLUMNS = (*columns("audience", "unit_type"), Column("ids", right=True), *columns("digest"))


@app.callback()
def _group() -> None:
    # Keeps `upload` a command of its own while it is the only one.
    pass


@app.command()
def upload(
    audience: Annotated[str, typer.Argument(help="Id of an audience by id list.")],
    file: Annotated[
        str, typer.Argument(help="A file with one id a line, or - for standard input.")
    ],
    *,
    etag: Etag = "",
    data: Data = None,
    output: Output = Format.TABLE,
) -> None:
    """Put the ids of a file in the place of an audience's list, all at once.

    Nobody's membership changes before the last id has arrived. An id may stand twice, and counts
    once. Example: touchstone audience upload vip customers.txt
    """
    with open_session(data) as session, _lines(file) as lines:
        name, upload_id = session.name("audiences", audience), RandomIds().new()
        sent = 0
        for part, ids in enumerate(parts_of(lines)):
            session.audiences.UploadAudienceIds(
                pb.UploadAudienceIdsRequest(name=name, upload_id=upload_id, part=part, ids=ids)
            )
            sent = part + 1
        if not sent:
            raise typer.BadParameter(f"{file} holds no id; allowed: one id a line")
        reply = session.audiences.CommitAudienceIds(
            pb.CommitAudienceIdsRequest(name=name, upload_id=upload_id, parts=sent, etag=etag)
        )
    found = reply.audience
    row = audience, found.id_list.unit_type, found.id_list.count, found.id_list.digest
    write(View(found, _COLUMNS, [row]), output)
    say(f"{found.id_list.count} different ids decide from version {found.config_version} on")


def parts_of(lines: Iterable[str]) -> Iterator[list[str]]:
    """The ids of lines, in parts that a call takes. Empty lines are none."""
    ids: list[str] = []
    size = 0
    for line in lines:
        unit_id = line.rstrip("\r\n")
        if not unit_id:
            continue
        if len(ids) == PART_IDS or size > PART_BYTES:
            yield ids
            ids, size = [], 0
        ids.append(unit_id)
        size += len(unit_id.encode()) + 4
    if ids:
        yield ids


@contextmanager
def _lines(file: str) -> Iterator[TextIO]:
    try:
        if file == "-":
            yield sys.stdin
            return
        # Only a line feed ends a line: an id may hold any other space that is not a control one.
        with open(file, encoding="utf-8", newline="\n") as lines:  # noqa: PTH123  as given
            yield lines
    except OSError as error:
        raise typer.BadParameter(f"{file} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise typer.BadParameter(f"{file} is no text in UTF-8: byte {error.start}") from error
