"""touchstone attribution report credits, export: the credits behind a report."""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, BinaryIO

import typer
from touchstone.attribution.v1 import score_service_pb2 as pb

from services.cli.commands.attribution_report import COLLECTION, Name
from services.cli.figures import enum_text, time_text
from services.cli.options import Data, Output
from services.cli.rendering import Cell, Column, Format, View, columns, write
from services.cli.session import open_session
from services.cli.terminal import say
from shared.errors import failed_precondition, unavailable


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


def export(
    report: Name,
    *,
    result: Annotated[
        int, typer.Option(min=0, help="Which result of the report, from 0, in its order.")
    ] = 0,
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
