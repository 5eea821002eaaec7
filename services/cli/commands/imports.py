"""touchstone import: real data through the same door as everybody's."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from services.cli.commands.import_events import import_event_files
from services.cli.failures import FAILED, REJECTED
from services.cli.importing.experiments import ExperimentFile, import_experiment
from services.cli.importing.journey_rows import JourneyMapping, JourneyRows
from services.cli.importing.names import (
    dataset_name,
    require_currency,
    require_dataset,
    require_event_name,
    require_unit_type,
)
from services.cli.importing.rejects import require_ours
from services.cli.importing.report import Report, document, tell
from services.cli.importing.runs import Run, require_new, run
from services.cli.importing.sources import DELIMITERS, open_source
from services.cli.options import Data, Output
from services.cli.rendering import Column, Format, View, columns, write
from services.cli.session import open_session
from services.cli.terminal import say
from shared.clock import SystemClock

app = typer.Typer(no_args_is_help=True, help="Replay files through the ingest RPC.")

File = Annotated[Path, typer.Argument(help="A CSV file (UTF-8, with a header), Parquet or NDJSON.")]
Dataset = Annotated[
    str,
    typer.Option(help="Name of the data: with it, a row is one event for ever. [default: stem]"),
]
Rejects = Annotated[
    Path | None,
    typer.Option(help="Where bad rows go. [default: a new STEM.rejected.csv in this folder]"),
]
Restart = Annotated[
    bool, typer.Option("--restart", help="Begin again where an interrupted import would go on.")
]
Again = Annotated[
    bool,
    typer.Option("--again", help="Count a file again that was imported as another dataset."),
]
UnitType = Annotated[str, typer.Option(help="What the units are.")]
SourceName = Annotated[str, typer.Option(help="What the events say sent them.")]
Currency = Annotated[str, typer.Option(help="ISO 4217 code of values and costs that are money.")]


@app.command(name="experiment")
def import_an_experiment(
    file: File,
    *,
    experiment: Annotated[str, typer.Option(help="Id of the experiment.")],
    unit: Annotated[str, typer.Option(help="Column of the unit's id; `row`: each row is a unit.")],
    variant: Annotated[str, typer.Option(help="Column of the variant's name.")],
    metric: Annotated[
        list[str],
        typer.Option(help="COLUMN, COLUMN:proportion or COLUMN:mean. Repeat it."),
    ],
    control: Annotated[
        str, typer.Option(help="The control's name, as the file has it. [default: the first in it]")
    ] = "",
    covariate: Annotated[
        list[str] | None,
        typer.Option(help="Column of a number from before the start, which the metrics use."),
    ] = None,
    attribute: Annotated[
        list[str] | None, typer.Option(help="Column to keep with the exposure. Repeat it.")
    ] = None,
    weight: Annotated[
        list[str] | None,
        typer.Option(help="NAME=WEIGHT; only the ratios count. Repeat it. [default: all equal]"),
    ] = None,
    time: Annotated[
        str | None, typer.Option(help="Column of the time of the exposure.", show_default=False)
    ] = None,
    start: Annotated[
        str, typer.Option(help="Time of all exposures, without --time. [default: today]")
    ] = "",
    unit_type: UnitType = "user",
    currency: Currency = "",
    stop: Annotated[
        str, typer.Option(help="Time of the end. [default: the latest of --time, else now]")
    ] = "",
    keep_running: Annotated[
        bool, typer.Option("--keep-running", help="Do not stop the experiment at the end.")
    ] = False,
    dataset: Dataset = "",
    source: SourceName = "import",
    rejects: Rejects = None,
    restart: Restart = False,
    again: Again = False,
    data: Data = None,
    output: Output = Format.TABLE,
) -> None:
    """Import a finished experiment: a row a unit.

    Example: touchstone import experiment hillstrom.csv --experiment email --unit row
    --variant treatment --control "No E-Mail" --metric visit --metric conversion --metric spend
    --covariate history --attribute zip_code --attribute channel
    """
    wanted = ExperimentFile(
        experiment=experiment,
        unit=unit,
        unit_type=unit_type,
        variant=variant,
        control=control,
        metrics=tuple(metric),
        covariates=tuple(covariate or ()),
        attributes=tuple(attribute or ()),
        weights=tuple(weight or ()),
        time=time,
        start=start,
        stop=stop,
        currency=currency,
        keep_running=keep_running,
        dataset=dataset or dataset_name(file.stem),
        source=source,
    )
    if stop and keep_running:
        raise typer.BadParameter("--stop and --keep-running contradict each other; name one")
    prepared = _run(file, wanted.dataset, rejects, restart=restart, again=again)
    with open_session(data) as session:
        report = import_experiment(session, wanted, prepared, SystemClock())
    _finish(report, output)


@app.command(name="journeys")
def import_journeys(
    file: File,
    *,
    unit: Annotated[str, typer.Option(help="Column of the unit's id.")],
    time: Annotated[str, typer.Option(help="Column of the time (UTC unless it says otherwise).")],
    channel: Annotated[str, typer.Option(help="Column of the channel.")],
    interaction: Annotated[
        str | None, typer.Option(help="Column of what the unit did.", show_default=False)
    ] = None,
    conversion_when: Annotated[
        str, typer.Option(help="The interaction that is a conversion too.")
    ] = "conversion",
    conversion: Annotated[
        str | None,
        typer.Option(help="Column that says 1 when the row is a conversion.", show_default=False),
    ] = None,
    value: Annotated[
        str | None, typer.Option(help="Column of the conversion's value.", show_default=False)
    ] = None,
    cost: Annotated[
        str | None, typer.Option(help="Column of the touch's cost.", show_default=False)
    ] = None,
    event_name: Annotated[str, typer.Option(help="Name of the conversions.")] = "conversion",
    unit_type: UnitType = "user",
    currency: Currency = "",
    dataset: Dataset = "",
    source: SourceName = "import",
    rejects: Rejects = None,
    restart: Restart = False,
    again: Again = False,
    data: Data = None,
    output: Output = Format.TABLE,
) -> None:
    """Import journeys: a row a touch, some of which are conversions too.

    Example: touchstone import journeys journeys.csv --unit customer_id --time time
    --channel channel --interaction interaction --value conversion_value --event-name purchase
    """
    if interaction is None and conversion is None:
        raise typer.BadParameter("name --interaction or --conversion: which rows are conversions?")
    mapping = JourneyMapping(
        dataset=dataset or dataset_name(file.stem),
        unit=unit,
        unit_type=unit_type,
        time=time,
        channel=channel,
        interaction=interaction,
        conversion_when=conversion_when,
        conversion=conversion,
        value=value,
        cost=cost,
        event_name=event_name,
        currency=currency,
        source=source,
    )
    require_unit_type(unit_type)
    require_event_name(event_name)
    require_currency(currency)
    prepared = _run(file, mapping.dataset, rejects, restart=restart, again=again)
    rows = JourneyRows(mapping, prepared.source)
    with open_session(data) as session:
        require_new(session, prepared, mapping)
        report = run(session, prepared, rows, mapping)
    _finish(report, output)


app.command(name="events")(import_event_files)


def _run(file: Path, dataset: str, rejects: Path | None, *, restart: bool, again: bool) -> Run:
    require_dataset(dataset)
    path = rejects or Path(f"{file.stem}.rejected.csv")
    if path.absolute() == file.absolute():
        raise typer.BadParameter("--rejects is the file to import; name another one")
    if rejects is not None:
        require_ours(path)
    source = open_source(file)
    mark = getattr(source, "delimiter", ",")
    if mark != ",":
        say(f"{file.name} is read with a {DELIMITERS[mark]} between its cells, as in its header")
    return Run(file, source, dataset, path, restart, again, rejects is not None)


def _finish(report: Report, output: Format) -> None:
    rows = [(name, value) for name, value in document(report).items() if value != ""]
    names = (*columns("what"), Column("value", right=True))
    write(View(document(report), names, rows), output)
    tell(report)
    counts = report.outcome.counts
    if report.stored == 0:
        raise typer.Exit(FAILED)
    if counts.rows_rejected or counts.rows_partly:
        raise typer.Exit(REJECTED)
