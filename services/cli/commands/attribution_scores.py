"""touchstone attribution report credits, scores, export: the credits behind a report."""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, BinaryIO

import grpc
import typer
from touchstone.attribution.v1 import score_service_pb2 as pb

from services.cli.commands.attribution_report import COLLECTION, Name
from services.cli.figures import enum_text, time_text
from services.cli.options import Data, Output
from services.cli.rendering import Cell, Column, Format, View, columns, write
from services.cli.score_stream import (
    LineFormat,
    Place,
    ScoreFile,
    Stream,
    parts_of,
    write_credits,
    write_header,
)
from services.cli.session import open_session
from services.cli.terminal import say, standard_output
from shared.errors import DomainError, failed_precondition, unavailable

Result = Annotated[
    int, typer.Option(min=0, help="Which result of the report, from 0, in its order.")
]


class FileFormat(enum.StrEnum):
    """The forms of a file of credits."""

    PARQUET = "parquet"
    CSV = "csv"


def list_credits(
    report: Name,
    conversion: Annotated[str, typer.Argument(help="Event id of the conversion.")],
    data: Data = None,
    output: Output = Format.TABLE,
) -> None:
    """Show why a conversion has its credits: each touch, whether it counts, and its weights.

    Example: touchstone attribution report credits weekly order-4711
    """
    with open_session(data) as session:
        request = pb.GetConversionCreditsRequest(
            report=session.name(COLLECTION, report), conversion_id=conversion
        )
        found = session.scores.GetConversionCredits(request)
    shown = (
        *columns("touch_id", "channel", "touch_time", "verdict"),
        *(Column(name, right=True) for name in found.model_names),
    )
    no_weights: list[Cell] = [None] * len(found.model_names)
    table: list[tuple[Cell, ...]] = [
        (
            touch.touch_id,
            touch.channel,
            time_text(touch, "touch_time"),
            enum_text(touch, "verdict", "TOUCH_VERDICT_"),
            *(touch.weights or no_weights),
        )
        for touch in found.touches
    ]
    write(View(found, shown, table, title=conversion), output)
    outcome = enum_text(found, "outcome", "CONVERSION_OUTCOME_").replace("_", " ")
    say(f"{outcome}; {found.unit.type} {found.unit.id}, value {found.value:g}")


def scores(
    report: Name,
    *,
    result: Result = 0,
    form: Annotated[
        LineFormat, typer.Option("--format", help="`ndjson`, an object a line, or `csv`.")
    ] = LineFormat.NDJSON,
    to: Annotated[
        Path | None,
        typer.Option(
            help="The file. The same command goes on where it broke. [default: standard output]",
            show_default=False,
        ),
    ] = None,
    resume_from: Annotated[
        str,
        typer.Option(
            help="Without --to: the token that a broken run told, to go on behind it.",
            show_default=False,
        ),
    ] = "",
    data: Data = None,
) -> None:
    """Stream the credit of every touch of every conversion by one result, a line each.

    A stream that breaks is begun again behind what came. Example: touchstone attribution report
    scores weekly --to credits.ndjson
    """
    if to and resume_from:
        raise typer.BadParameter("--to and --resume-from are both there; allowed: one of the two")
    with open_session(data) as session:
        name = session.name(COLLECTION, report)

        def stream(token: str) -> Iterable[pb.StreamScoresResponse]:
            return session.scores.StreamScores(
                pb.StreamScoresRequest(report=name, result_index=result, resume_token=token)
            )

        if to is None:
            _to_output(stream, form, resume_from)
        else:
            _to_file(stream, ScoreFile(to, Place(name, result, form.value)), to)


def _to_file(stream: Stream, file: ScoreFile, path: Path) -> None:
    before = file.place.credits
    if before:
        say(f"{path} holds {before:,} credits of a run that broke; the rest follows")
    try:
        file.fill(parts_of(stream, file.place.token))
    except OSError as error:
        raise failed_precondition(
            "OUTPUT_LOST",
            f"{path} cannot be written ({error.strerror}): make room, and run the same command "
            "again; it goes on behind what is there",
        ) from error
    except (grpc.RpcError, DomainError, KeyboardInterrupt):
        if file.place.token:
            say(f"{file.place.credits:,} credits are in {path}; the same command again goes on")
        raise
    say(f"{path}: {file.place.credits:,} credits")


def _to_output(stream: Stream, form: LineFormat, token: str) -> None:
    found = 0
    try:
        with standard_output() as out:
            if not token:
                write_header(form, out)
            for part in parts_of(stream, token):
                write_credits(part.credits, form, out)
                out.flush()
                token, found = part.resume_token, found + len(part.credits)
    except (grpc.RpcError, DomainError, KeyboardInterrupt):
        if found:
            say(f"{found:,} credits came; go on behind them with --resume-from {token}")
        raise
    say(f"{found:,} credits")


def export(
    report: Name,
    *,
    result: Result = 0,
    file_format: Annotated[
        FileFormat, typer.Option("--format", help="Form of the file.")
    ] = FileFormat.PARQUET,
    file: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="The file. [default: the report's id]", show_default=False
        ),
    ] = None,
    data: Data = None,
) -> None:
    """Write the credit of every touch of every conversion by one result to a file.

    Example: touchstone attribution report export weekly --format csv --output credits.csv
    """
    with open_session(data) as session:
        name = session.name(COLLECTION, report)
        chosen = pb.ScoreFormat.Value(f"SCORE_FORMAT_{file_format.name}")
        request = pb.ExportScoresRequest(report=name, result_index=result, format=chosen)
        target = file or Path(f"{name.rpartition('/')[2]}.{file_format.value}")
        made = target.with_name(f".{target.name}.part")
        try:
            try:
                with made.open("wb") as out:
                    size = _write_parts(session.scores.ExportScores(request), out)
                made.replace(target)
            finally:
                made.unlink(missing_ok=True)
        except OSError as error:
            raise failed_precondition(
                "OUTPUT_LOST", f"{target} cannot be written ({error.strerror}): write it elsewhere"
            ) from error
    say(f"{target}: {size:,} bytes")


def _write_parts(parts: Iterable[pb.ExportScoresResponse], out: BinaryIO) -> int:
    """All parts; UNAVAILABLE when they are not the file that their digest is of."""
    digest, size, expected = hashlib.sha256(), 0, ""
    for part in parts:
        digest.update(part.data)
        size += out.write(part.data)
        expected = part.sha256
    if digest.hexdigest() != expected:
        raise unavailable("DEPENDENCY_UNAVAILABLE", "the file was cut off; ask again")
    return size
