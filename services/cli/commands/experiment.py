"""touchstone experiment: the life of experiments."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import typer
from google.protobuf import struct_pb2
from touchstone.assignment.v1 import experiment_pb2 as model_pb
from touchstone.assignment.v1 import experiment_service_pb2 as pb

from services.cli.figures import enum_text, last_part, time_text
from services.cli.importing.names import require_experiment_id, require_unit_type
from services.cli.options import Data, DryRun, Etag, Limit, Output, parse_pair
from services.cli.paging import collect
from services.cli.rendering import Cell, Column, Format, View, columns, write
from services.cli.session import open_session
from services.cli.splits import Weights, parse_weight, relative_weights, with_equal_weights
from services.cli.terminal import warn

app = typer.Typer(no_args_is_help=True, help="Create, read, start and stop experiments.")

Name = Annotated[str, typer.Argument(help="Id of the experiment.", metavar="EXPERIMENT")]
_COLUMNS = (*columns("experiment", "state", "source", "unit_type", "variants", "control"),)
_LAST = (Column("slots", right=True), *columns("start_time", "stop_time", "etag"))


@app.command()
def create(
    experiment: Name,
    *,
    variant: Annotated[
        list[str],
        typer.Option(
            help="Key of a variant, or KEY=WEIGHT in 1/10,000 (with --external: any whole "
            "numbers); the first is the control unless "
            "--control names another. Repeat it."
        ),
    ],
    payload: Annotated[
        list[str] | None, typer.Option(help="KEY=JSON: configuration of a variant. Repeat it.")
    ] = None,
    control: Annotated[str, typer.Option(help="Key of the control. [default: the first]")] = "",
    title: Annotated[str, typer.Option(help="A title for people.")] = "",
    hypothesis: Annotated[str, typer.Option(help="What is expected, and why.")] = "",
    owner: Annotated[str, typer.Option(help="Who answers for it.")] = "",
    unit_type: Annotated[str, typer.Option(help="What is randomised.")] = "user",
    layer: Annotated[str, typer.Option(help="Layer whose slots it takes. [default: its own]")] = "",
    slots: Annotated[int, typer.Option(help="Share of the layer in 1/10,000.")] = 10_000,
    external: Annotated[
        bool, typer.Option("--external", help="Somebody else assigns; Assign never answers it.")
    ] = False,
    dry_run: DryRun = False,
    data: Data = None,
    output: Output = Format.TABLE,
) -> None:
    """Make a draft.

    Example: touchstone experiment create checkout --variant control --variant green
    """
    require_experiment_id(experiment, "EXPERIMENT")
    require_unit_type(unit_type)
    source = model_pb.ASSIGNMENT_SOURCE_EXTERNAL if external else model_pb.ASSIGNMENT_SOURCE_SLOTS
    with open_session(data) as session:
        wanted = model_pb.Experiment(
            display_name=title,
            hypothesis=hypothesis,
            owner=owner,
            unit_type=unit_type,
            assignment_source=source,
            layer=session.name("layers", layer) if layer else "",
            traffic_slots=0 if external else slots,
            variants=_variants(
                variant, payload or [], relative_weights if external else with_equal_weights
            ),
            control_variant=control,
        )
        reply = session.experiments.CreateExperiment(
            pb.CreateExperimentRequest(
                parent=session.parent,
                experiment_id=experiment,
                experiment=wanted,
                validate_only=dry_run,
            )
        )
    show_one(reply, output)


@app.command()
def get(experiment: Name, data: Data = None, output: Output = Format.TABLE) -> None:
    """Show one experiment."""
    with open_session(data) as session:
        request = pb.GetExperimentRequest(name=session.name("experiments", experiment))
        show_one(session.experiments.GetExperiment(request), output)


@app.command(name="list")
def list_experiments(
    state: Annotated[
        list[str] | None,
        typer.Option(help="Only this state: draft, running, paused, stopped, archived."),
    ] = None,
    limit: Limit = 1000,
    data: Data = None,
    output: Output = Format.TABLE,
) -> None:
    """List experiments, newest first; archived ones only when asked for."""
    states = [_state(text) for text in state or []]
    with open_session(data) as session:
        request = pb.ListExperimentsRequest(parent=session.parent, states=states)
        reply = collect(session.experiments.ListExperiments, request, "experiments", limit)
    rows = [_row(experiment) for experiment in reply.experiments]
    write(View(reply, (*_COLUMNS, *_LAST), rows), output)


@app.command()
def update(
    experiment: Name,
    *,
    title: Annotated[str | None, typer.Option(help="A title for people.")] = None,
    hypothesis: Annotated[str | None, typer.Option(help="What is expected, and why.")] = None,
    owner: Annotated[str | None, typer.Option(help="Who answers for it.")] = None,
    slots: Annotated[int | None, typer.Option(help="Share of the layer in 1/10,000.")] = None,
    etag: Etag = "",
    dry_run: DryRun = False,
    data: Data = None,
    output: Output = Format.TABLE,
) -> None:
    """Change what is named; of a running experiment its texts, and its share upwards."""
    given: dict[str, Any] = {
        "display_name": title,
        "hypothesis": hypothesis,
        "owner": owner,
        "traffic_slots": slots,
    }
    changes = {field: value for field, value in given.items() if value is not None}
    if not changes:
        raise typer.BadParameter("nothing to change; name --title, --hypothesis, --owner, --slots")
    with open_session(data) as session:
        name = session.name("experiments", experiment)
        request = pb.UpdateExperimentRequest(
            experiment=model_pb.Experiment(name=name, etag=etag, **changes), validate_only=dry_run
        )
        request.update_mask.paths.extend(changes)
        show_one(session.experiments.UpdateExperiment(request), output)


@app.command()
def start(
    experiment: Name,
    etag: Etag = "",
    dry_run: DryRun = False,
    data: Data = None,
    output: Output = Format.TABLE,
) -> None:
    """Start a draft, which takes its slots, or go on with a paused experiment."""
    with open_session(data) as session:
        name = session.name("experiments", experiment)
        request = pb.StartExperimentRequest(name=name, etag=etag, validate_only=dry_run)
        show_one(session.experiments.StartExperiment(request), output)


@app.command()
def pause(
    experiment: Name,
    etag: Etag = "",
    dry_run: DryRun = False,
    data: Data = None,
    output: Output = Format.TABLE,
) -> None:
    """Stop assigning without giving up the slots."""
    with open_session(data) as session:
        name = session.name("experiments", experiment)
        request = pb.PauseExperimentRequest(name=name, etag=etag, validate_only=dry_run)
        show_one(session.experiments.PauseExperiment(request), output)


@app.command()
def stop(
    experiment: Name,
    etag: Etag = "",
    dry_run: DryRun = False,
    data: Data = None,
    output: Output = Format.TABLE,
) -> None:
    """End a running or paused experiment and release its slots."""
    with open_session(data) as session:
        name = session.name("experiments", experiment)
        request = pb.StopExperimentRequest(name=name, etag=etag, validate_only=dry_run)
        show_one(session.experiments.StopExperiment(request), output)


@app.command()
def archive(
    experiment: Name,
    etag: Etag = "",
    dry_run: DryRun = False,
    data: Data = None,
    output: Output = Format.TABLE,
) -> None:
    """Put a draft or a stopped experiment away."""
    with open_session(data) as session:
        name = session.name("experiments", experiment)
        request = pb.ArchiveExperimentRequest(name=name, etag=etag, validate_only=dry_run)
        show_one(session.experiments.ArchiveExperiment(request), output)


def _variants(
    texts: list[str], payloads: list[str], split: Callable[[Weights], Mapping[str, int]]
) -> list[model_pb.Variant]:
    weights = split([parse_weight(text) for text in texts])
    configured = dict(_payload(text) for text in payloads)
    if strangers := sorted(configured.keys() - weights.keys()):
        raise typer.BadParameter(f"--payload names {strangers[0]!r}, which no --variant does")
    return [
        model_pb.Variant(key=key, weight=weight, payload=configured.get(key))
        for key, weight in weights.items()
    ]


def _payload(text: str) -> tuple[str, struct_pb2.Struct]:
    key, value = parse_pair(text, "--payload", """green='{"colour": "green"}'""")
    try:
        fields = json.loads(value)
    except json.JSONDecodeError as error:
        raise typer.BadParameter(f"--payload of {key!r} is no JSON: {error}") from error
    if not isinstance(fields, dict):
        raise typer.BadParameter(f"--payload of {key!r} is {value!r}; allowed: a JSON object")
    struct = struct_pb2.Struct()
    struct.update(fields)
    return key, struct


def _state(text: str) -> model_pb.Experiment.State.ValueType:
    try:
        return model_pb.Experiment.State.Value(f"STATE_{text.upper()}")
    except ValueError as error:
        raise typer.BadParameter(
            f"--state is {text!r}; allowed: draft, running, paused, stopped, archived"
        ) from error


def _row(experiment: model_pb.Experiment) -> tuple[Cell, ...]:
    return (
        last_part(experiment.name),
        enum_text(experiment, "state", "STATE_"),
        enum_text(experiment, "assignment_source", "ASSIGNMENT_SOURCE_"),
        experiment.unit_type,
        " ".join(f"{v.key}={v.weight}" for v in experiment.variants),
        experiment.control_variant,
        experiment.traffic_slots,
        time_text(experiment, "start_time"),
        time_text(experiment, "stop_time"),
        experiment.etag,
    )


def show_one(reply: Any, output: Format) -> None:
    """The experiment of a reply."""
    experiment = reply.experiment
    if experiment.killed:
        warn(f"the kill switch is on: {experiment.kill_reason}")
    write(View(reply, (*_COLUMNS, *_LAST), [_row(reply.experiment)]), output)
