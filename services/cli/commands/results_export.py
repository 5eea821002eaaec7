"""touchstone results export: what an experiment shows, as a file."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, BinaryIO

import typer
from touchstone.results.v1 import export_service_pb2 as pb
from touchstone.results.v1 import results_service_pb2 as results_pb

from services.cli.commands.results import (
    METHODS,
    POSTERIORS,
    STITCHINGS,
    AsOf,
    Days,
    Method,
    PosteriorOption,
    parse_span,
)
from services.cli.options import Data, PointInTime
from services.cli.session import open_session
from services.cli.terminal import say, standard_output
from shared.errors import failed_precondition, unavailable


class FileFormat(enum.StrEnum):
    """The forms of a file."""

    JSON = "json"
    CSV = "csv"
    HTML = "html"
    NOTEBOOK = "notebook"


FORMATS = {
    FileFormat.JSON: pb.EXPORT_FORMAT_JSON,
    FileFormat.CSV: pb.EXPORT_FORMAT_CSV,
    FileFormat.HTML: pb.EXPORT_FORMAT_HTML,
    FileFormat.NOTEBOOK: pb.EXPORT_FORMAT_NOTEBOOK,
}


def export(
    experiment: Annotated[str, typer.Argument(help="Id of the experiment.")],
    *,
    file_format: Annotated[
        FileFormat, typer.Option("--format", help="Form of the file.")
    ] = FileFormat.HTML,
    file: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="The file; `-` is standard output. [default: the experiment's id, here]",
            show_default=False,
        ),
    ] = None,
    metric: Annotated[
        list[str] | None, typer.Option(help="Id of a metric. Repeat it. [default: all]")
    ] = None,
    method: Annotated[
        list[Method] | None,
        typer.Option(help="Read by this method too. Repeat it."),
    ] = None,
    dimension: Annotated[
        list[str] | None,
        typer.Option(help="Split by this, such as properties.country. Repeat it."),
    ] = None,
    days: Days = None,
    posterior: PosteriorOption = None,
    as_of: AsOf = "",
    point_in_time: PointInTime = False,
    data: Data = None,
) -> None:
    """Write results to a file: for people, spreadsheets, programs, or to compute them again.

    Example: touchstone results export checkout --format html --output checkout.html
    """
    spans = [parse_span(text) for text in days or []]
    with open_session(data) as session:
        asked = results_pb.GetResultsRequest(
            experiment=session.name("experiments", experiment),
            metrics=[session.name("metrics", name) for name in metric or []],
            methods=[METHODS[one] for one in method or []],
            dimensions=dimension,
            exposure_windows=spans,
            posteriors=[POSTERIORS[one] for one in posterior or []],
            as_of=as_of,
            stitching=STITCHINGS[point_in_time],
        )
        request = pb.ExportResultsRequest(results=asked, format=FORMATS[file_format])
        parts = iter(session.exports.ExportResults(request))
        first = next(parts)
        if file == Path("-"):
            with standard_output() as out:
                write_parts(first, parts, out.buffer)
        else:
            write_file(first, parts, file or Path(first.file_name))


def write_parts(
    first: pb.ExportResultsResponse, rest: Iterator[pb.ExportResultsResponse], out: BinaryIO
) -> None:
    """All parts; UNAVAILABLE when they are not the file that the first one announced."""
    written = out.write(first.content)
    for part in rest:
        written += out.write(part.content)
    if written != first.size_bytes:
        raise unavailable(
            "DEPENDENCY_UNAVAILABLE",
            f"{written} of {first.size_bytes} bytes came; ask again",
        )


def write_file(
    first: pb.ExportResultsResponse, rest: Iterator[pb.ExportResultsResponse], file: Path
) -> None:
    """The file, which is there as a whole or as it was before."""
    made = file.with_name(f".{file.name}.part")
    try:
        try:
            with made.open("wb") as out:
                write_parts(first, rest, out)
            made.replace(file)
        finally:
            made.unlink(missing_ok=True)
    except OSError as error:
        raise failed_precondition(
            "OUTPUT_LOST", f"{file} cannot be written ({error.strerror}): write it elsewhere"
        ) from error
    say(f"{file}: {first.size_bytes:,} bytes, watermark {first.provenance.watermark or 'none'}")
