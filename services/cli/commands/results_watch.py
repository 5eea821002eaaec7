"""touchstone results watch: what an experiment shows, again whenever the data moves on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, TextIO

import typer
from touchstone.results.v1 import results_service_pb2 as pb

from services.cli.commands.results import (
    COLUMNS,
    METHODS,
    POSTERIORS,
    STITCHINGS,
    Days,
    Method,
    PosteriorOption,
    brief,
    parse_span,
    rows,
    tell,
    title,
)
from services.cli.figures import last_part
from services.cli.options import Data, Output, PointInTime
from services.cli.rendering import Column, Format, View, json_text, write
from services.cli.session import open_session
from services.cli.terminal import say, standard_output

_LONGEST_S = 366 * 86_400.0
_WITH_WATERMARK = (Column("watermark"), *COLUMNS)


def watch(
    experiment: Annotated[str, typer.Argument(help="Id of the experiment.")],
    metric: Annotated[
        list[str] | None, typer.Option(help="Id of a metric. Repeat it. [default: all]")
    ] = None,
    method: Annotated[
        Method | None,
        typer.Option(help="How comparisons are read. [default: that of the analysis plan]"),
    ] = None,
    interval_s: Annotated[
        int, typer.Option(min=1, help="The fewest seconds between two results.")
    ] = 10,
    times: Annotated[int, typer.Option(min=0, help="End after so many results; 0: never.")] = 0,
    *,
    days: Days = None,
    posterior: PosteriorOption = None,
    point_in_time: PointInTime = False,
    data: Data = None,
    output: Output = Format.TABLE,
) -> None:
    """Show what an experiment shows, again whenever the data moves on, until Ctrl-C.

    JSON is one object a line, first each metric as it is ready, then all of them at a time; CSV has
    the watermark in its first column. Takes the looks that are due, as show does.

    Example: touchstone results watch checkout --output json
    """
    spans = [parse_span(text) for text in days or []]
    with open_session(data) as session:
        asked = pb.GetResultsRequest(
            experiment=session.name("experiments", experiment),
            metrics=[session.name("metrics", name) for name in metric or []],
            methods=[METHODS[method]] if method else [],
            exposure_windows=spans,
            posteriors=[POSTERIORS[one] for one in posterior or []],
            stitching=STITCHINGS[point_in_time],
        )
        request = pb.WatchResultsRequest(results=asked, interval_s=interval_s)
        told = session.results.WatchResults(request, timeout=_LONGEST_S)
        with standard_output() as out:
            show_each(up_to(told, times), method, output, out)


def up_to(told: Iterable[pb.WatchResultsResponse], times: int) -> Iterable[pb.WatchResultsResponse]:
    """Everything up to the complete result of this number; 0: everything."""
    if not times:
        yield from told
        return
    several = iter(told)
    for _ in range(times):
        for one in several:
            yield one
            if one.complete:
                break


def show_each(
    told: Iterable[pb.WatchResultsResponse], method: Method | None, output: Format, out: TextIO
) -> None:
    """Each result in the form that is wanted, as soon as it is there."""
    header = True
    for one in told:
        if output is Format.JSON:
            out.write(json_text(one, indent=None) + "\n")
            out.flush()
        elif not one.complete:
            for metric in one.results.metrics:
                say(f"{last_part(metric.metric)} is ready")
        elif output is Format.CSV:
            watermark = one.results.provenance.watermark
            whole = [(watermark, *row) for row in rows(one.results, method)]
            write(View(one, _WITH_WATERMARK, whole), output, out, header=header)
            header = False
        else:
            _show_table(one, method, out)


def _show_table(told: pb.WatchResultsResponse, method: Method | None, out: TextIO) -> None:
    results = told.results
    whole = list(rows(results, method))
    heading = title(last_part(results.experiment), results.provenance.alpha)
    write(View(told, COLUMNS, whole, heading, brief(whole)), Format.TABLE, out)
    tell(results)
