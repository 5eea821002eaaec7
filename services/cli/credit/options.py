"""The options that say which journeys are credited, by which models, and with what beside."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from google.protobuf.message import Message
from touchstone.attribution.v1 import attribution_pb2, held_out_pb2, uncertainty_pb2
from touchstone.attribution.v1.report_service_pb2 import RunAttributionRequest
from touchstone.common.v1 import identity_pb2

from services.cli.credit.definition import read_definition
from services.cli.credit.fields import read_fields, wrong
from services.cli.credit.filters import HELP as FILTER_HELP
from services.cli.credit.filters import read_filters
from services.cli.credit.models import read_model, set_half_life, set_order
from services.cli.importing.names import require_event_name, require_unit_type
from services.cli.options import MAX_DAYS, PointInTime, parse_days, parse_time

DEFINITION_HELP = (
    "A YAML file of kind AttributionReport that says all of it; options go before what it says."
)
MODEL_HELP = (
    "A model: NAME, or NAME:FIELD=VALUE,FIELD=VALUE, such as markov:order=2. Repeat it. "
    "[default: first_touch, last_touch, linear, position_based, time_decay, markov]"
)
TRANSFORM_HELP = (
    "unique, exposure, exposure_last, first, last, frequency, or remove_if_not_all=CHANNEL, "
    "remove_if_last_and_not_all=CHANNEL; CHANNEL,CHANNEL for several. Repeat it."
)
CREDITED_HELP = (
    "What is credited: channel, campaign, source_medium, interaction, content or property=KEY. "
    "[default: channel]"
)
_TRANSFORM = "PATH_TRANSFORM_KIND_"
_FIELD = "TOUCH_FIELD_"
_WINDOW = (
    "channel=CHANNEL,lookback=14d, with interaction=NAME in the place of the channel or beside"
)
Transforms = Annotated[list[str] | None, typer.Option("--transform", help=TRANSFORM_HELP)]
Models = Annotated[list[str] | None, typer.Option("--model", help=MODEL_HELP)]
Order = Annotated[
    str,
    typer.Option(help="The order of Markov models: 1 to 10, or auto.", show_default=False),
]


class Repeat(enum.StrEnum):
    """What several conversions of a unit do."""

    ALL = "all"
    FIRST = "first"
    SPLIT = "split"


class Direct(enum.StrEnum):
    """What touches of direct channels do."""

    KEEP = "keep"
    SKIP_IF_OTHER = "skip_if_other"
    DROP = "drop"


@dataclass(frozen=True, slots=True, kw_only=True)
class JourneyOptions:
    """Which conversions are credited to which touches."""

    definition: Annotated[
        Path | None, typer.Option("--definition", "-f", help=DEFINITION_HELP, show_default=False)
    ] = None
    event_name: Annotated[
        str, typer.Option(help="The conversion events that are credited.", show_default=False)
    ] = ""
    unit_type: Annotated[
        str, typer.Option(help="Whose touches make a journey. [default: user]")
    ] = ""
    lookback_days: Annotated[
        float | None,
        typer.Option(help="Days before its conversion that a touch counts. [default: 30]"),
    ] = None
    window: Annotated[
        list[str] | None,
        typer.Option(help=f"A lookback of some touches: {_WINDOW}. Repeat it."),
    ] = None
    since: Annotated[
        str, typer.Option(help="Conversions from this time on.", show_default=False)
    ] = ""
    until: Annotated[
        str, typer.Option(help="Conversions before this time.", show_default=False)
    ] = ""
    repeats: Annotated[
        Repeat | None,
        typer.Option(help="Several conversions of a unit: all, first or split. [default: all]"),
    ] = None
    direct: Annotated[
        Direct | None,
        typer.Option(help="What touches of direct channels do. [default: keep]"),
    ] = None
    association: Annotated[
        list[str] | None,
        typer.Option(
            help="A property in which a touch agrees with its conversion: KEY, or "
            "KEY_OF_TOUCH=KEY_OF_CONVERSION. Repeat it."
        ),
    ] = None
    conversions_where: Annotated[
        list[str] | None, typer.Option(help=f"Only conversions with {FILTER_HELP}")
    ] = None
    touches_where: Annotated[
        list[str] | None, typer.Option(help=f"Only touches with {FILTER_HELP}")
    ] = None
    channel_grouping: Annotated[
        str,
        typer.Option(
            help="Id of a channel grouping, or ID@VERSION. [default: as they were sent]",
            show_default=False,
        ),
    ] = ""
    credited: Annotated[str, typer.Option(help=CREDITED_HELP, show_default=False)] = ""
    transform: Transforms = None
    point_in_time: PointInTime = False

    @property
    def named(self) -> bool:
        """Whether journeys are named at all."""
        return bool(self.event_name or self.definition)

    def read(self) -> RunAttributionRequest:
        """What the file says, with the options in its place; BadParameter where either is wrong."""
        asked = read_definition(self.definition)
        journeys = asked.journeys
        self._cut(journeys)
        self._choose(journeys)
        if not journeys.event_name:
            raise typer.BadParameter(
                "no conversions are named; allowed: --event-name, or --definition with a file"
            )
        return asked

    def _cut(self, journeys: attribution_pb2.JourneyDefinition) -> None:
        """What makes a journey."""
        if self.event_name:
            require_event_name(self.event_name)
            journeys.event_name = self.event_name
        if self.unit_type:
            require_unit_type(self.unit_type)
            journeys.unit_type = self.unit_type
        if self.lookback_days is not None:
            if self.lookback_days == 0:
                raise wrong("--lookback-days", "0", f"allowed: more than 0, up to {MAX_DAYS}")
            journeys.lookback.CopyFrom(parse_days(self.lookback_days, "--lookback-days"))
        if self.window:
            windows = [
                read_fields("--window", text, text, attribution_pb2.Window())
                for text in self.window
            ]
            _replace(journeys.windows, windows)
        if self.since:
            journeys.start_time.CopyFrom(parse_time(self.since, "--since"))
        if self.until:
            journeys.end_time.CopyFrom(parse_time(self.until, "--until"))
        if self.repeats:
            rule = attribution_pb2.RepeatRule.Value(f"REPEAT_RULE_{self.repeats.name}")
            journeys.repeat_rule = rule
        if self.point_in_time:
            journeys.stitching = identity_pb2.STITCHING_POINT_IN_TIME

    def _choose(self, journeys: attribution_pb2.JourneyDefinition) -> None:
        """What counts in it, and what is credited."""
        if self.direct:
            handling = attribution_pb2.DirectHandling.Value(f"DIRECT_HANDLING_{self.direct.name}")
            journeys.direct.handling = handling
        if self.association:
            _replace(journeys.associations, [_association(text) for text in self.association])
        if self.conversions_where:
            found = read_filters(self.conversions_where, "--conversions-where")
            journeys.conversion_filter.CopyFrom(found)
        if self.touches_where:
            journeys.touch_filter.CopyFrom(read_filters(self.touches_where, "--touches-where"))
        if self.channel_grouping:
            journeys.channel_grouping.CopyFrom(read_grouping(self.channel_grouping))
        if self.credited:
            journeys.credited.CopyFrom(read_credited(self.credited))
        if self.transform:
            _replace(journeys.path_transforms, read_transforms(self.transform))


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelOptions:
    """Which models credit."""

    model: Models = None
    order: Order = ""
    half_life_days: Annotated[
        float | None,
        typer.Option(help="Days after which time_decay gives half as much.", show_default=False),
    ] = None

    def apply(self, asked: RunAttributionRequest) -> None:
        """Put the models in the place of those that are there."""
        if self.model:
            _replace(asked.models, [read_model(text) for text in self.model])
        set_order(asked.models, self.order)
        set_half_life(asked.models, self.half_life_days)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportingOptions:
    """What is said beside the figures."""

    min_units: Annotated[
        int | None,
        typer.Option(min=0, help="The least units of what is told of alone.", show_default=False),
    ] = None
    replicates: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=2000,
            help="How often units are drawn again for intervals; 0: no intervals.",
            show_default=False,
        ),
    ] = None
    hold_out: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=0.9,
            help="The part of units that models are judged by; 0: nobody.",
            show_default=False,
        ),
    ] = None

    def apply(self, asked: RunAttributionRequest) -> None:
        """Put it in the place of what is there."""
        if self.min_units is not None:
            asked.min_units = self.min_units
        if self.replicates is not None:
            asked.bootstrap.CopyFrom(
                uncertainty_pb2.Bootstrap(replicates=self.replicates, off=not self.replicates)
            )
        if self.hold_out is not None:
            asked.held_out.CopyFrom(held_out_pb2.HeldOut(part=self.hold_out, off=not self.hold_out))


def _replace(field: Any, messages: Sequence[Message]) -> None:
    """The messages in the place of those of a repeated field."""
    del field[:]
    field.extend(messages)


def read_transforms(texts: Sequence[str]) -> list[attribution_pb2.PathTransform]:
    """The transforms, in their order."""
    return [_transform(text) for text in texts]


def read_credited(text: str) -> attribution_pb2.CreditKey:
    """The key by which credit is given."""
    kind, _, key = text.partition("=")
    if kind == "property" and key:
        return attribution_pb2.CreditKey(property=key)
    fields = {
        name.removeprefix(_FIELD).lower(): number
        for name, number in attribution_pb2.TouchField.items()
        if number
    }
    if text not in fields:
        allowed = ", ".join((*fields, "property=KEY"))
        raise wrong("--credited", text, f"allowed: {allowed}")
    return attribution_pb2.CreditKey(field=fields[text])


def _transform(text: str) -> attribution_pb2.PathTransform:
    name, _, channels = text.partition("=")
    known = [
        name.removeprefix(_TRANSFORM).lower()
        for name, number in attribution_pb2.PathTransformKind.items()
        if number
    ]
    if name not in known:
        raise wrong("--transform", text, f"allowed: {', '.join(known)}")
    made = attribution_pb2.PathTransform(
        kind=attribution_pb2.PathTransformKind.Value(f"{_TRANSFORM}{name.upper()}"),
        channels=channels.split(",") if channels else [],
    )
    if name.startswith("remove_if") != bool(channels):
        allowed = f"{name}=CHANNEL" if name.startswith("remove_if") else name
        raise wrong("--transform", text, f"allowed: {allowed}")
    return made


def _association(text: str) -> attribution_pb2.Association:
    touch, equals, conversion = text.partition("=")
    if not touch or (equals and not conversion):
        raise wrong("--association", text, "allowed: KEY, or KEY_OF_TOUCH=KEY_OF_CONVERSION")
    return attribution_pb2.Association(touch_property=touch, conversion_property=conversion)


def read_grouping(text: str, option: str = "--channel-grouping") -> attribution_pb2.ChannelGrouping:
    """The grouping of ID or ID@VERSION, by its id."""
    name, at, version = text.partition("@")
    if not name or (at and not version.isdecimal()):
        raise wrong(option, text, "allowed: ID or ID@VERSION")
    return attribution_pb2.ChannelGrouping(name=name, version=int(version or 0))
