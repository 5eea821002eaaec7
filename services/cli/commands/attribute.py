"""touchstone attribute: credit over a file of aggregated paths."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from touchstone.attribution.v1 import attribution_pb2 as model_pb
from touchstone.attribution.v1 import attribution_service_pb2 as pb
from touchstone.attribution.v1.report_service_pb2 import RunAttributionRequest

from services.cli.commands.attribution import FIGURES, credit_view, fit_text, tell_doubts
from services.cli.credit.fields import wrong
from services.cli.credit.models import NAMES, read_model, set_order
from services.cli.credit.options import Order, ReportingOptions, Transforms, read_transforms
from services.cli.figures import count
from services.cli.importing.path_rows import PathColumns, read_paths
from services.cli.importing.sources import open_source
from services.cli.option_groups import option_groups
from services.cli.options import Data, Output
from services.cli.rendering import Format, write
from services.cli.session import open_session
from services.cli.terminal import say

NEEDS_TIMES = ("time_decay", "same_touch", "full_path", "additive_hazard")
"""Models of times and milestones, which paths do not tell."""
NEEDS_WEIGHTS = ("custom", "by_position")
"""Models that mean nothing without weights."""
MODELS = tuple(name for name in NAMES if name not in (*NEEDS_TIMES, *NEEDS_WEIGHTS))
"""The models that credit where none is named."""
_WITHOUT_COSTS = tuple(
    each for each in FIGURES if each[0] not in ("cost_per_conversion", "return_on_spend")
)


@option_groups
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
        list[str] | None,
        typer.Option(
            help="A model: NAME, or NAME:FIELD=VALUE,FIELD=VALUE. Repeat it. "
            "[default: all that need neither times nor weights]"
        ),
    ] = None,
    order: Order = "",
    transform: Transforms = None,
    reporting: ReportingOptions,
    ignore_nulls: Annotated[
        bool, typer.Option("--ignore-nulls", help="Markov models leave these journeys out.")
    ] = False,
    data: Data = None,
    output: Output = Format.TABLE,
) -> None:
    """Credit channels over the paths of a file. Nothing of it is stored.

    Example: touchstone attribute paths.csv --separator " > " --model markov:order=2
    """
    paths = read_paths(open_source(file), PathColumns(path, conversions, value, nulls))
    asked = RunAttributionRequest(models=[_model(text) for text in model or MODELS])
    set_order(asked.models, order)
    for each in asked.models if ignore_nulls else ():
        if each.WhichOneof("kind") == "markov":
            each.markov.ignore_non_converting = True
    reporting.apply(asked)
    request = pb.EvaluatePathsRequest(
        paths=paths,
        separator=separator.strip(),
        models=asked.models,
        path_transforms=read_transforms(transform or ()),
        min_units=asked.min_units,
        bootstrap=asked.bootstrap if asked.HasField("bootstrap") else None,
        held_out=asked.held_out if asked.HasField("held_out") else None,
    )
    with open_session(data) as session:
        reply = session.attribution.EvaluatePaths(request)
    write(credit_view(reply, file.name, _WITHOUT_COSTS), output)
    found = reply.summary
    say(
        f"{count(len(paths))} paths: {count(found.journeys)} journeys with "
        f"{count(found.touches)} touches, {count(found.converting_journeys)} of which converted"
    )
    for fit in reply.fits:
        say(fit_text(fit))
    tell_doubts(reply)


def _model(text: str) -> model_pb.Model:
    model = read_model(text)
    if model.WhichOneof("kind") in NEEDS_TIMES:
        allowed = ", ".join((*MODELS, *NEEDS_WEIGHTS))
        raise wrong("--model", text, f"paths tell no times and no milestones; allowed: {allowed}")
    return model
