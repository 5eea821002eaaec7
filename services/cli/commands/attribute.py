"""touchstone attribute: credit over a file of aggregated paths."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import typer
from touchstone.attribution.v1 import attribution_pb2 as model_pb
from touchstone.attribution.v1 import attribution_service_pb2 as pb

from services.cli.figures import count, share
from services.cli.importing.path_rows import PathColumns, read_paths
from services.cli.importing.sources import open_source
from services.cli.options import Data, Output
from services.cli.rendering import Cell, Column, Format, View, columns, write
from services.cli.session import open_session
from services.cli.terminal import say, warn


class PathModel(enum.StrEnum):
    """A model that needs neither times nor milestones, which paths do not tell."""

    FIRST_TOUCH = "first_touch"
    LAST_TOUCH = "last_touch"
    LAST_NON_DIRECT = "last_non_direct"
    LINEAR = "linear"
    POSITION_BASED = "position_based"
    RANK_DECAY = "rank_decay"
    PARTICIPATION = "participation"
    MARKOV = "markov"
    SHAPLEY = "shapley"
    FRACTRIBUTION = "fractribution"
    PROBABILISTIC = "probabilistic"
    BAGGED_LOGISTIC = "bagged_logistic"


COLUMNS = (
    *columns("model", "channel"),
    Column("conversions", lambda cell: f"{cell:,.2f}", right=True),
    Column("value", lambda cell: f"{cell:,.2f}", right=True),
    Column("share", share, right=True),
    Column("removal_effect", lambda cell: f"{cell:.4f}", right=True),
)


def attribute(
    file: Annotated[Path, typer.Argument(help="CSV, Parquet or NDJSON: a row a path.")],
    *,
    path: Annotated[
        str, typer.Option(help="Column of the channels in order. [default: path]")
    ] = "",
    conversions: Annotated[
        str, typer.Option(help="Column of journeys that converted. [default: conversions]")
    ] = "",
    value: Annotated[
        str, typer.Option(help="Column of the value of these together. [default: value]")
    ] = "",
    nulls: Annotated[
        str, typer.Option(help="Column of journeys that did not convert. [default: nulls]")
    ] = "",
    separator: Annotated[str, typer.Option(help="What stands between channels.")] = ">",
    model: Annotated[
        list[PathModel] | None, typer.Option(help="A model. Repeat it. [default: all]")
    ] = None,
    order: Annotated[int, typer.Option(min=1, max=10, help="The order of a Markov model.")] = 1,
    ignore_nulls: Annotated[
        bool, typer.Option("--ignore-nulls", help="Markov models leave these journeys out.")
    ] = False,
    data: Data = None,
    output: Output = Format.TABLE,
) -> None:
    """Credit channels over the paths of a file. Nothing of it is stored.

    Example: touchstone attribute paths.csv --separator " > " --model markov --order 2
    """
    paths = read_paths(open_source(file), PathColumns(path, conversions, value, nulls))
    models = [_model(name, order, ignore_nulls=ignore_nulls) for name in model or PathModel]
    request = pb.EvaluatePathsRequest(paths=paths, separator=separator.strip(), models=models)
    with open_session(data) as session:
        reply = session.attribution.EvaluatePaths(request)
    write(View(reply, COLUMNS, rows(reply), title=file.name), output)
    found = reply.summary
    say(
        f"{count(len(paths))} paths: {count(found.journeys)} journeys with "
        f"{count(found.touches)} touches, {count(found.converting_journeys)} of which converted"
    )
    for warning in reply.warnings:
        warn(f"{warning.channel}: {warning.message}" if warning.channel else warning.message)


def rows(reply: pb.EvaluatePathsResponse) -> list[tuple[Cell, ...]]:
    """A row for each model and channel."""
    return [
        (
            result.model_name,
            channel.channel,
            channel.conversions,
            channel.value,
            channel.share,
            channel.removal_effect if channel.HasField("removal_effect") else None,
        )
        for result in reply.results
        for channel in result.channels
    ]


def _model(name: PathModel, order: int, *, ignore_nulls: bool) -> model_pb.Model:
    model = model_pb.Model()
    getattr(model, name.value).SetInParent()
    if name is PathModel.MARKOV:
        model.markov.order = order
        model.markov.ignore_non_converting = ignore_nulls
    return model
