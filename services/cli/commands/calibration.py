"""touchstone calibration: credit corrected by experiments."""

from __future__ import annotations

import enum
from typing import Annotated

import typer
from touchstone.assignment.v1 import experiment_service_pb2 as experiment_pb
from touchstone.attribution.v1 import calibration_pb2 as model_pb
from touchstone.attribution.v1 import calibration_service_pb2 as pb
from touchstone.results.v1 import metric_service_pb2 as metric_pb

from services.cli.credit.options import read_credited
from services.cli.figures import enum_text, last_part
from services.cli.options import Data, DryRun, Limit, Output, parse_pair
from services.cli.paging import collect
from services.cli.rendering import Cell, Format, View, columns, write
from services.cli.session import Session, open_session
from services.cli.terminal import say

app = typer.Typer(
    no_args_is_help=True, help="Correct credit by experiments that switched channels."
)

COLLECTION = "calibrationLinks"
COLUMNS = columns("link", "channel", "treatment", "compared", "metric")


class Switch(enum.StrEnum):
    """What a group did to the channel."""

    ON = "on"
    OFF = "off"


Name = Annotated[str, typer.Argument(help="Id of the link.", metavar="LINK")]
Group = Annotated[
    str,
    typer.Option(
        help="In place of --experiment: EXPERIMENT=VARIANT of who was kept out.", show_default=False
    ),
]
Waves = Annotated[
    list[str] | None,
    typer.Option("--wave", help="With --control-group: EXPERIMENT=VARIANT. Repeat it."),
]


@app.command()
def create(
    link: Name,
    *,
    channel: Annotated[str, typer.Option(help="The channel, as reports name it.")],
    metric: Annotated[str, typer.Option(help="Id of the metric: of the conversions credited.")],
    experiment: Annotated[str, typer.Option(help="Id of the experiment.", show_default=False)] = "",
    treatment: Annotated[str, typer.Option(help="One variant.", show_default=False)] = "",
    control: Annotated[str, typer.Option(help="The other variant.", show_default=False)] = "",
    control_group: Group = "",
    waves: Waves = None,
    treatment_is: Annotated[
        Switch, typer.Option(help="What the treatment, or the waves, did to the channel.")
    ] = Switch.ON,
    credited: Annotated[
        str,
        typer.Option(
            help="What --channel is a name of: channel, campaign, source_medium, interaction, "
            "content or property=KEY."
        ),
    ] = "channel",
    description: Annotated[str, typer.Option(help="What it is about.", show_default=False)] = "",
    dry_run: DryRun = False,
    data: Data = None,
) -> None:
    """Link a channel to an experiment that switched it on for some and off for others.

    Example: touchstone calibration create mail-test --channel mail --metric orders
    --experiment switch-mail --treatment shown --control held-out
    """
    made = model_pb.CalibrationLink(
        description=description,
        channel=channel,
        treatment=model_pb.ChannelSwitch.Value(f"CHANNEL_SWITCH_{treatment_is.name}"),
    )
    if credited != "channel":
        made.credited.CopyFrom(read_credited(credited))
    compared = (experiment, treatment, control)
    if bool(control_group) == all(compared) or bool(control_group) != bool(waves):
        allowed = "--experiment, --treatment and --control, or --control-group and --wave"
        raise typer.BadParameter(f"nothing to compare is named; allowed: {allowed}")
    with open_session(data) as session:
        made.metric = session.name("metrics", metric)
        if control_group:
            made.control_group.control.CopyFrom(_group(session, "--control-group", control_group))
            made.control_group.waves.extend(_group(session, "--wave", wave) for wave in waves or ())
        else:
            comparison = made.experiment_comparison
            comparison.experiment = session.name("experiments", experiment)
            comparison.treatment_variant, comparison.control_variant = treatment, control
        _require_there(session, made)
        session.calibration.CreateCalibrationLink(
            pb.CreateCalibrationLinkRequest(
                parent=session.parent,
                calibration_link_id=link,
                calibration_link=made,
                validate_only=dry_run,
            )
        )
    say("nothing was changed" if dry_run else f"created {link}")


@app.command(name="list")
def list_links(limit: Limit = 100, data: Data = None, output: Output = Format.TABLE) -> None:
    """List links by name."""
    with open_session(data) as session:
        request = pb.ListCalibrationLinksRequest(parent=session.parent)
        reply = collect(
            session.calibration.ListCalibrationLinks, request, "calibration_links", limit
        )
    write(View(reply, COLUMNS, [_row(each) for each in reply.calibration_links]), output)


@app.command()
def get(link: Name, data: Data = None, output: Output = Format.TABLE) -> None:
    """Show a link."""
    with open_session(data) as session:
        request = pb.GetCalibrationLinkRequest(name=session.name(COLLECTION, link))
        found = session.calibration.GetCalibrationLink(request).calibration_link
    write(View(found, COLUMNS, [_row(found)]), output)
    if found.description:
        say(found.description)


@app.command()
def delete(link: Name, dry_run: DryRun = False, data: Data = None) -> None:
    """Delete a link."""
    with open_session(data) as session:
        name = session.name(COLLECTION, link)
        session.calibration.DeleteCalibrationLink(
            pb.DeleteCalibrationLinkRequest(name=name, validate_only=dry_run)
        )
    say("nothing was changed" if dry_run else f"deleted {link}")


def _require_there(session: Session, made: model_pb.CalibrationLink) -> None:
    """Refuses a link to what is not there: it would be left out of every report, late.

    The service itself takes links to experiments that are yet to be made.
    """
    session.metrics.GetMetric(metric_pb.GetMetricRequest(name=made.metric))
    if made.WhichOneof("source") == "control_group":
        sides = (made.control_group.control, *made.control_group.waves)
        named = [(each.experiment, each.variant) for each in sides]
    else:
        found = made.experiment_comparison
        variants = (found.treatment_variant, found.control_variant)
        named = [(found.experiment, variant) for variant in variants]
    for experiment in dict.fromkeys(each for each, _ in named):
        request = experiment_pb.GetExperimentRequest(name=experiment)
        there = session.experiments.GetExperiment(request).experiment
        keys = [variant.key for variant in there.variants]
        for of, variant in named:
            if of == experiment and variant not in keys:
                why = f"{last_part(experiment)} has no variant {variant!r}"
                raise typer.BadParameter(f"{why}; allowed: {', '.join(keys)}")


def _group(session: Session, option: str, text: str) -> model_pb.TestedVariant:
    experiment, variant = parse_pair(text, option, "switch-mail=held-out")
    return model_pb.TestedVariant(
        experiment=session.name("experiments", experiment), variant=variant
    )


def _row(link: model_pb.CalibrationLink) -> tuple[Cell, ...]:
    return (
        last_part(link.name),
        link.channel,
        enum_text(link, "treatment", "CHANNEL_SWITCH_"),
        _compared(link),
        last_part(link.metric),
    )


def _compared(link: model_pb.CalibrationLink) -> str:
    if link.WhichOneof("source") == "experiment_comparison":
        found = link.experiment_comparison
        sides = f"{found.treatment_variant} with {found.control_variant}"
        return f"{last_part(found.experiment)}: {sides}"
    group = link.control_group
    waves = ", ".join(f"{last_part(each.experiment)}={each.variant}" for each in group.waves)
    return f"{waves} with {last_part(group.control.experiment)}={group.control.variant}"
