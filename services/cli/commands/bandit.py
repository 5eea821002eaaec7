"""touchstone bandit: weights that follow the evidence."""

from __future__ import annotations

import enum
from typing import Annotated, Any

import typer
from touchstone.results.v1 import bandit_service_pb2 as pb

from services.cli.commands.results import STITCHINGS
from services.cli.commands.results_further import removed_words
from services.cli.figures import count, enum_text, estimate, probability
from services.cli.options import Data, DryRun, Output, PointInTime
from services.cli.rendering import Cell, Column, Format, View, columns, write
from services.cli.session import Session, open_session
from services.cli.terminal import say, warn

app = typer.Typer(no_args_is_help=True, help="Let the weights of an experiment follow its data.")

COLUMNS = (
    *columns("variant"),
    Column("units", count, right=True),
    Column("mean", right=True),
    Column("std_err", right=True),
    Column("probability_best", probability, right=True),
    Column("current_weight", right=True),
    Column("weight", right=True),
    *columns("dropped"),
)


class Policy(enum.StrEnum):
    """What the weights are for."""

    THOMPSON = "thompson"
    TOP_TWO = "top-two"


Name = Annotated[str, typer.Argument(help="Id of the experiment.", metavar="EXPERIMENT")]
MetricOption = Annotated[str, typer.Option(help="Id of the metric to be earned. Needed.")]
PolicyOption = Annotated[
    Policy, typer.Option(help="thompson: earn while learning; top-two: find the best soon.")
]
Floor = Annotated[float, typer.Option(min=0, max=0.5, help="The least share of a variant.")]
LeastUnits = Annotated[
    int, typer.Option(min=1, help="Weights are held until every variant has as many units.")
]
AsOf = Annotated[str, typer.Option(help="The watermark of computed weights, to have the same.")]


@app.command()
def compute(
    experiment: Name,
    *,
    metric: MetricOption,
    policy: PolicyOption = Policy.THOMPSON,
    floor: Floor = 0.01,
    least_units: LeastUnits = 100,
    as_of: AsOf = "",
    point_in_time: PointInTime = False,
    data: Data = None,
    output: Output = Format.TABLE,
) -> None:
    """Say which weights the evidence asks for. Changes nothing.

    Example: touchstone bandit compute banner --metric revenue
    """
    with open_session(data) as session:
        request = pb.ComputeBanditWeightsRequest(
            experiment=session.name("experiments", experiment),
            rule=_rule(session, metric, policy, floor, least_units, point_in_time),
            as_of=as_of,
        )
        reply = session.bandits.ComputeBanditWeights(request)
    show(reply, output)
    weights = reply.weights
    if not weights.hold:
        say(f"to set these: --as-of {weights.watermark or 'none'} --etag {weights.etag}")


@app.command()
def apply(
    experiment: Name,
    *,
    metric: MetricOption,
    policy: PolicyOption = Policy.THOMPSON,
    floor: Floor = 0.01,
    least_units: LeastUnits = 100,
    as_of: AsOf = "",
    etag: Annotated[
        str, typer.Option(help="Set them only if the experiment still has this etag.")
    ] = "",
    point_in_time: PointInTime = False,
    dry_run: DryRun = False,
    data: Data = None,
    output: Output = Format.TABLE,
) -> None:
    """Compute the weights and set them, unless they are held: then those that are there stay.

    Example: touchstone bandit apply banner --metric revenue
    """
    with open_session(data) as session:
        request = pb.ApplyBanditWeightsRequest(
            experiment=session.name("experiments", experiment),
            rule=_rule(session, metric, policy, floor, least_units, point_in_time),
            as_of=as_of,
            etag=etag,
            validate_only=dry_run,
        )
        reply = session.bandits.ApplyBanditWeights(request)
    show(reply, output)
    if reply.applied:
        say("the weights could be set" if dry_run else "the weights are set")


def _rule(
    session: Session, metric: str, policy: Policy, floor: float, least: int, point_in_time: bool
) -> pb.BanditRule:
    return pb.BanditRule(
        metric=session.name("metrics", metric),
        policy=pb.BanditPolicy.Value(f"BANDIT_POLICY_{policy.name}"),
        floor=floor,
        least_units=least,
        stitching=STITCHINGS[point_in_time],
    )


def show(reply: Any, output: Format) -> None:
    """The arms, and why the weights are held where they are."""
    weights: pb.BanditWeights = reply.weights
    write(View(reply, COLUMNS, [row(arm) for arm in weights.arms]), output)
    if weights.hold:
        reason = enum_text(weights, "hold", "BANDIT_HOLD_").replace("_", " ")
        warn(f"the weights are held: {reason}")
    if weights.HasField("removed_since"):
        warn(removed_words(weights.removed_since))
    counted = [one for one in weights.periods if one.counts]
    say(f"{len(counted)} of {len(weights.periods)} periods of constant weights count")


def row(arm: pb.BanditArm) -> tuple[Cell, ...]:
    """One variant; a dropped one has no numbers."""
    return (
        arm.variant,
        arm.units,
        estimate(arm.mean),
        estimate(arm.std_err),
        estimate(arm.probability_best),
        arm.current_weight,
        arm.weight,
        arm.dropped,
    )
