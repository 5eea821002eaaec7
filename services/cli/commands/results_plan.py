"""touchstone results plan, change-plan: how an experiment is read, decided before its data is."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from touchstone.results.v1 import analysis_plan_pb2 as model_pb
from touchstone.results.v1 import analysis_plan_service_pb2 as pb
from touchstone.results.v1 import metric_pb2

from services.cli.commands.results import METHODS, Method
from services.cli.figures import enum_name, last_part, time_text
from services.cli.options import Data, DryRun, Etag, Output, parse_pair, parse_time
from services.cli.rendering import Cell, Format, View, columns, write
from services.cli.session import Session, open_session

COLUMNS = columns("field", "value")
ROLES = ("primary", "secondary", "guardrail")
_NOT_SHOWN = ("name", "metrics")

Name = Annotated[str, typer.Argument(help="Id of the experiment.", metavar="EXPERIMENT")]


class Spending(enum.StrEnum):
    """How alpha is spent over the looks of a group-sequential plan."""

    OBRIEN_FLEMING = "obrien-fleming"
    POCOCK = "pocock"
    POWER = "power"
    HWANG_SHIH_DECANI = "hwang-shih-decani"


def plan(
    experiment: Name,
    version: Annotated[int, typer.Option(min=0, help="As it was; 0: as it is now.")] = 0,
    data: Data = None,
    output: Output = Format.TABLE,
) -> None:
    """Show the analysis plan of an experiment. Version 0 is the default, which nobody made.

    Example: touchstone results plan checkout
    """
    with open_session(data) as session:
        request = pb.GetAnalysisPlanRequest(name=_name(session, experiment), version=version)
        show(session.plans.GetAnalysisPlan(request), output)


def change_plan(
    experiment: Name,
    *,
    method: Annotated[Method | None, typer.Option(help="The rule of record.")] = None,
    alpha: Annotated[float | None, typer.Option(help="Error probability.")] = None,
    power: Annotated[float | None, typer.Option(help="Chance to find what is worth it.")] = None,
    spending: Annotated[Spending | None, typer.Option(help="How looks spend alpha.")] = None,
    planned_units: Annotated[
        int | None, typer.Option(help="Units of all variants when it ends.")
    ] = None,
    planned_end: Annotated[
        str, typer.Option(help="When it ends. [default: at the scheduled stop]")
    ] = "",
    dimension: Annotated[
        list[str] | None, typer.Option(help="Split by this, such as properties.country. Repeat it.")
    ] = None,
    cluster_unit_type: Annotated[
        str | None, typer.Option(help="Units linked to one unit of this type vary together.")
    ] = None,
    cluster_field: Annotated[
        str | None, typer.Option(help="The same for one value of this, such as properties.shop.")
    ] = None,
    switchback_s: Annotated[
        int | None,
        typer.Option(help="Seconds of a window with one variant; 0: as the experiment says."),
    ] = None,
    burn_in_s: Annotated[
        int | None, typer.Option(help="First seconds of a window that do not count.")
    ] = None,
    role: Annotated[
        list[str] | None, typer.Option(help="METRIC=ROLE here: primary, secondary, guardrail.")
    ] = None,
    margin: Annotated[
        list[str] | None, typer.Option(help="METRIC=SHARE that a guardrail may lose here.")
    ] = None,
    etag: Etag = "",
    dry_run: DryRun = False,
    data: Data = None,
    output: Output = Format.TABLE,
) -> None:
    """Change what is named of the analysis plan. What looks cost is fixed by the first look.

    Roles and margins replace all that the plan had.

    Example: touchstone results change-plan checkout --planned-units 40000 --role orders=primary
    """
    roles, margins = _roles(role or []), _margins(margin or [])
    given: dict[str, Any] = {
        "method": METHODS[method] if method else None,
        "alpha": alpha,
        "power": power,
        "spending": model_pb.AlphaSpending.Value(f"ALPHA_SPENDING_{spending.name}")
        if spending
        else None,
        "planned_units": planned_units,
        "planned_end_time": parse_time(planned_end, "--planned-end") if planned_end else None,
        "dimensions": dimension,
        "cluster_unit_type": cluster_unit_type,
        "cluster_field": cluster_field,
    }
    changes = {field: value for field, value in given.items() if value is not None}
    changes |= _windows(switchback_s, burn_in_s)
    if not (changes or roles or margins):
        raise typer.BadParameter("nothing to change; name an option such as --planned-units")
    with open_session(data) as session:
        wanted = model_pb.AnalysisPlan(name=_name(session, experiment), etag=etag, **changes)
        if roles or margins:
            wanted.metrics.extend(_metrics(session, roles, margins))
            changes["metrics"] = None
        request = pb.UpdateAnalysisPlanRequest(analysis_plan=wanted, validate_only=dry_run)
        request.update_mask.paths.extend(changes)
        show(session.plans.UpdateAnalysisPlan(request), output)


def _name(session: Session, experiment: str) -> str:
    return f"{session.name('experiments', experiment)}/analysisPlan"


def _windows(period_s: int | None, burn_in_s: int | None) -> dict[str, Any]:
    """The change of the windows, None for taking them away; nothing where they stay."""
    if period_s is None:
        if burn_in_s is not None:
            raise typer.BadParameter(
                f"--burn-in-s is {burn_in_s} without windows; allowed: together with --switchback-s"
            )
        return {}
    if not period_s:
        return {"switchback": None}
    windows = model_pb.SwitchbackWindows(period_s=period_s, burn_in_s=burn_in_s or 0)
    return {"switchback": windows}


def _roles(texts: list[str]) -> dict[str, metric_pb2.MetricRole.ValueType]:
    found = {}
    for text in texts:
        metric, role = parse_pair(text, "--role", "orders=primary")
        if role not in ROLES:
            raise typer.BadParameter(f"--role is {text!r}; allowed: METRIC={'|'.join(ROLES)}")
        found[metric] = metric_pb2.MetricRole.Value(f"METRIC_ROLE_{role.upper()}")
    return found


def _margins(texts: list[str]) -> dict[str, float]:
    found = {}
    for text in texts:
        metric, share = parse_pair(text, "--margin", "refunds=0.02")
        try:
            found[metric] = float(share)
        except ValueError as error:
            raise typer.BadParameter(
                f"--margin is {text!r}; allowed: METRIC=SHARE, such as refunds=0.02"
            ) from error
    return found


def _metrics(
    session: Session,
    roles: Mapping[str, metric_pb2.MetricRole.ValueType],
    margins: Mapping[str, float],
) -> Iterator[model_pb.MetricPlan]:
    for metric in dict.fromkeys([*roles, *margins]):
        yield model_pb.MetricPlan(
            metric=session.name("metrics", metric),
            role=roles.get(metric, metric_pb2.METRIC_ROLE_UNSPECIFIED),
            margin=margins.get(metric),
        )


def show(reply: Any, output: Format) -> None:
    """Every field of the plan in a row of its own."""
    found: model_pb.AnalysisPlan = reply.analysis_plan
    heading = f"{found.name.split('/')[-2]}, analysis plan {found.version}"
    write(View(reply, COLUMNS, list(rows(found)), heading), output)


def rows(plan_: model_pb.AnalysisPlan) -> Iterator[tuple[Cell, ...]]:
    """A row for each field that says something, then one for each metric that is named."""
    for field in plan_.DESCRIPTOR.fields:
        if field.name not in _NOT_SHOWN:
            yield field.name, _value(plan_, field)
    for metric in plan_.metrics:
        role = enum_name(metric_pb2.MetricRole.DESCRIPTOR, metric.role, "METRIC_ROLE_")
        said = [role] if metric.role else []
        said += [f"margin {metric.margin:g}"] if metric.HasField("margin") else []
        yield f"metric {last_part(metric.metric)}", ", ".join(said)


def _value(plan_: Any, field: FieldDescriptor) -> Cell:
    value = getattr(plan_, field.name)
    if field.enum_type is not None:
        prefix = field.enum_type.values[0].name.removesuffix("UNSPECIFIED")
        name = enum_name(field.enum_type, value, prefix)
        return "by default" if name == "unspecified" else name.replace("_", "-")
    if isinstance(value, Message):
        if not plan_.HasField(field.name):
            return None
        if isinstance(value, Timestamp):
            return time_text(plan_, field.name)
        return ", ".join(f"{part.name} {number:g}" for part, number in value.ListFields())
    if isinstance(value, bool | int | float | str):
        return value
    return ", ".join(value)
