"""touchstone experiment kill and so on: what is done to an experiment while it lasts."""

from __future__ import annotations

from typing import Annotated

import typer
from touchstone.assignment.v1 import experiment_service_pb2 as pb
from touchstone.common.v1.unit_pb2 import UnitId

from services.cli.commands.experiment import Name, show_one
from services.cli.figures import time_text
from services.cli.options import Data, DryRun, Etag, Limit, Output, parse_pair
from services.cli.paging import collect
from services.cli.rendering import Format, View, columns, write
from services.cli.session import open_session
from services.cli.terminal import say

Unit = Annotated[str, typer.Argument(help="Id of the unit.", metavar="UNIT")]
UnitType = Annotated[str, typer.Option(help="Type of the unit's id.")]
_FORCED = columns("unit_type", "unit", "variant", "note", "create_time")


def kill(
    experiment: Name,
    reason: Annotated[str, typer.Option(help="Why; everybody who looks at it sees this.")],
    dry_run: DryRun = False,
    data: Data = None,
    output: Output = Format.TABLE,
) -> None:
    """Turn the kill switch on: from now on nobody gets a variant.

    Example: touchstone experiment kill checkout --reason "prices are wrong"
    """
    with open_session(data) as session:
        name = session.name("experiments", experiment)
        request = pb.KillExperimentRequest(name=name, reason=reason, validate_only=dry_run)
        show_one(session.experiments.KillExperiment(request), output)


def revive(
    experiment: Name,
    etag: Etag = "",
    dry_run: DryRun = False,
    data: Data = None,
    output: Output = Format.TABLE,
) -> None:
    """Turn the kill switch off: it goes on as its state says."""
    with open_session(data) as session:
        name = session.name("experiments", experiment)
        request = pb.ReviveExperimentRequest(name=name, etag=etag, validate_only=dry_run)
        show_one(session.experiments.ReviveExperiment(request), output)


def weights(
    experiment: Name,
    weight: Annotated[
        list[str],
        typer.Argument(help="KEY=WEIGHT of every variant, 10,000 in all.", metavar="KEY=WEIGHT..."),
    ],
    etag: Etag = "",
    dry_run: DryRun = False,
    data: Data = None,
    output: Output = Format.TABLE,
) -> None:
    """Set the weights of a bandit's variants.

    Example: touchstone experiment weights banner control=2000 green=8000
    """
    found = dict(_weight(text) for text in weight)
    if len(found) != len(weight):
        raise typer.BadParameter("a variant is named twice; name each once")
    with open_session(data) as session:
        name = session.name("experiments", experiment)
        request = pb.SetVariantWeightsRequest(
            name=name, weights=found, etag=etag, validate_only=dry_run
        )
        show_one(session.experiments.SetVariantWeights(request), output)


def force(
    experiment: Name,
    unit: Unit,
    variant: Annotated[str, typer.Argument(help="Key of the variant.", metavar="VARIANT")],
    *,
    unit_type: UnitType = "user",
    note: Annotated[str, typer.Option(help="Whose unit it is, and what for.")] = "",
    dry_run: DryRun = False,
    data: Data = None,
    output: Output = Format.TABLE,
) -> None:
    """Give a unit a variant whatever the rules say, to look at it; it counts in no analysis.

    Example: touchstone experiment force checkout qa-7 green --note "Ada's phone"
    """
    with open_session(data) as session:
        forced = pb.ForcedVariant(unit=UnitId(type=unit_type, id=unit), variant=variant, note=note)
        request = pb.SetForcedVariantRequest(
            experiment=session.name("experiments", experiment),
            forced_variant=forced,
            validate_only=dry_run,
        )
        reply = session.experiments.SetForcedVariant(request)
    write(View(reply, _FORCED, [_forced_row(reply.forced_variant)]), output)


def unforce(
    experiment: Name,
    unit: Unit,
    *,
    unit_type: UnitType = "user",
    dry_run: DryRun = False,
    data: Data = None,
) -> None:
    """Take a forced variant back: the rules decide for the unit again."""
    with open_session(data) as session:
        request = pb.ClearForcedVariantRequest(
            experiment=session.name("experiments", experiment),
            unit=UnitId(type=unit_type, id=unit),
            validate_only=dry_run,
        )
        session.experiments.ClearForcedVariant(request)
    say(f"{unit_type} {unit} gets what the rules of {experiment} say")


def forced(
    experiment: Name, limit: Limit = 1000, data: Data = None, output: Output = Format.TABLE
) -> None:
    """List the forced variants of an experiment."""
    with open_session(data) as session:
        request = pb.ListForcedVariantsRequest(experiment=session.name("experiments", experiment))
        reply = collect(session.experiments.ListForcedVariants, request, "forced_variants", limit)
    rows = [_forced_row(found) for found in reply.forced_variants]
    write(View(reply, _FORCED, rows), output)


def _weight(text: str) -> tuple[str, int]:
    key, weight = parse_pair(text, "KEY=WEIGHT", "green=2500")
    if not (weight.isascii() and weight.isdigit() and int(weight) <= 10_000):
        raise typer.BadParameter(
            f"the weight of {key!r} is {weight!r}; allowed: a whole number from 0 to 10000"
        )
    return key, int(weight)


def _forced_row(found: pb.ForcedVariant) -> tuple[str, ...]:
    return (
        found.unit.type,
        found.unit.id,
        found.variant,
        found.note,
        time_text(found, "create_time"),
    )
