"""A seeded history of touches, conversions and links; events and definitions as messages."""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Iterator, Sequence
from typing import Any

from google.protobuf import duration_pb2, json_format, struct_pb2, timestamp_pb2
from touchstone.attribution.v1 import attribution_pb2 as pb
from touchstone.common.v1 import filter_pb2, identity_pb2, unit_pb2
from touchstone.events.v1 import event_pb2

from tests.e2e.attribution_oracle import DAY, HOUR, Compare, Event, Filter, Rules

START = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)
START_US = int(START.timestamp()) * 1_000_000
GRID = 12 * HOUR
DAYS = 60
# What touches are: the interaction, and the channels, sources and media that go with it.
KINDS: dict[str, tuple[Sequence[str], Sequence[tuple[str, str]]]] = {
    "impression": (("Display", "Video"), (("adnet", "cpm"), ("youtube", "cpm"))),
    "click": (("Search", "Mail"), (("google", "cpc"), ("bing", "cpc"), ("crm", "email"))),
    "visit": (("direct", "Organic"), (("", ""), ("google", "organic"))),
    "call": (("Call centre",), (("", "phone"),)),
    "offline": (("Branch", "Field sales"), (("", "visit"), ("expo", "event"))),
}
CAMPAIGNS = ("", "spring", "brand", "always-on")
REGIONS = ("north", "south", "west")
# What is not text is credited to nobody by name.
EMPLOYEES: tuple[Any, ...] = ("e-101", "e-102", "e-207", "e-311", 311.0)
PRODUCTS: tuple[Any, ...] = ("card", "loan", "fund", 1.0, "1", True)
# Lookbacks whose edges touches are put at.
EDGES = (3 * DAY, 7 * DAY, 10 * DAY)


class History:
    """What happens to units, drawn from a seed: the same seed gives the same events."""

    def __init__(self, seed: int, units: int) -> None:
        self._draw = random.Random(seed)
        self._seed = seed
        self.events: list[Event] = []
        for number in range(units):
            self._unit(f"user:u{seed}-{number}")
        for number in range(units // 3):
            self._device(f"device:d{seed}-{number}", units)

    def batches(self, count: int) -> list[list[Event]]:
        """The events in the order in which they arrive: links, and everything else shuffled."""
        links = sorted((e for e in self.events if "link" in e.kind), key=lambda event: event.order)
        others = [event for event in self.events if "link" not in event.kind]
        self._draw.shuffle(others)
        size = len(others) // count + 1
        cut = [others[n : n + size] for n in range(0, len(others), size)]
        half = len(links) // 2
        # A link and its unlink are in one batch: their times say which was first.
        cut[0], cut[-1] = [*links[:half], *cut[0]], [*cut[-1], *links[half:]]
        return cut

    def _unit(self, unit: str) -> None:
        draw = self._draw
        bought = [self._time() for _ in range(draw.choice((0, 0, 1, 1, 1, 2, 3)))]
        for time in bought:
            self._convert(unit, time)
            if draw.random() < 0.25:
                self._convert(unit, time)
        touched = [self._time() for _ in range(draw.randrange(0, 9))]
        for time in bought:
            if draw.random() < 0.5:
                # At the edges of windows, and a microsecond beyond.
                touched.append(time - draw.choice(EDGES) + draw.choice((-1, 0, 1)))
            if draw.random() < 0.4:
                touched.append(time + draw.choice((-1, 0, 0, 1)))
        for time in touched:
            self._touch(unit, time)
            if draw.random() < 0.15:
                self._touch(unit, time)
        for name in ("lead", "opportunity", "opportunity"):
            if draw.random() < 0.6:
                self._convert(unit, self._time(), name)

    def _device(self, device: str, units: int) -> None:
        """A device of one user, of one after another, or of nobody."""
        draw = self._draw
        for _ in range(draw.randrange(1, 5)):
            linked = (self._user(units),) if draw.random() < 0.1 else ()
            self._touch(device, self._time(), linked)
        if draw.random() < 0.3:
            self._convert(device, self._time())
        kind = draw.random()
        if kind < 0.15:
            return
        time, owner = self._time(), self._user(units)
        self._link(device, owner, time, "link")
        if kind > 0.6:
            self._link(device, owner, time + HOUR, "unlink")
        if kind > 0.8:
            self._link(device, self._user(units), time + 2 * HOUR, "link")

    def _user(self, units: int) -> str:
        return f"user:u{self._seed}-{self._draw.randrange(units)}"

    def _time(self) -> int:
        return START_US + self._draw.randrange(DAYS * DAY // GRID) * GRID

    def _id(self) -> str:
        return f"{self._draw.getrandbits(64):016x}"

    def _touch(self, unit: str, time: int, linked: tuple[str, ...] = ()) -> None:
        draw = self._draw
        interaction = draw.choice(list(KINDS))
        channels, sources = KINDS[interaction]
        source, medium = draw.choice(sources)
        fields: dict[str, Any] = {
            "channel": draw.choice(channels),
            "campaign_source": source,
            "medium": medium,
            "campaign": draw.choice(CAMPAIGNS),
            "interaction": interaction if draw.random() < 0.95 else "",
        }
        if draw.random() < 0.5:
            fields |= {"cost": draw.choice((0.0, 0.25, 1.5)), "currency": "EUR"}
        properties = self._properties()
        if interaction in ("call", "offline"):
            properties["employee"] = draw.choice(EMPLOYEES)
            if draw.random() < 0.8:
                properties["region"] = draw.choice(REGIONS)
        self.events.append(Event(self._id(), "touch", unit, time, fields, properties, linked))

    def _convert(self, unit: str, time: int, name: str = "order") -> None:
        draw = self._draw
        fields: dict[str, Any] = {"event_name": name}
        if draw.random() < 0.9:
            value = draw.choice((10.0, 25.5, 99.99, -5.0, 0.0))
            fields |= {"value": value, "currency": draw.choice(("EUR", "SEK"))}
        self.events.append(
            Event(self._id(), "conversion", unit, time, fields, self._properties("bought"))
        )

    def _properties(self, key: str = "product") -> dict[str, Any]:
        chance = self._draw.random()
        if chance < 0.1:
            return {}
        return {key: None if chance < 0.15 else self._draw.choice(PRODUCTS)}

    def _link(self, device: str, user: str, time: int, kind: str) -> None:
        self.events.append(Event(self._id(), kind, device, time, {"other": user}))


def stamp(time: int) -> timestamp_pb2.Timestamp:
    return timestamp_pb2.Timestamp(seconds=time // 1_000_000, nanos=time % 1_000_000 * 1000)


def span(length: int) -> duration_pb2.Duration:
    return duration_pb2.Duration(seconds=length // 1_000_000, nanos=length % 1_000_000 * 1000)


def unit_of(text: str) -> unit_pb2.UnitId:
    kind, _, unit_id = text.partition(":")
    return unit_pb2.UnitId(type=kind, id=unit_id)


def message_of(event: Event) -> event_pb2.Event:
    """The event as a user logs it."""
    message = event_pb2.Event(
        event_id=event.event_id,
        event_time=stamp(event.time),
        unit=unit_of(event.unit),
        linked_units=[unit_of(other) for other in event.linked],
    )
    if event.properties:
        json_format.ParseDict(dict(event.properties), message.properties)
    match event.kind:
        case "touch":
            message.touchpoint.CopyFrom(event_pb2.Touchpoint(**event.fields))
        case "conversion":
            message.conversion.CopyFrom(event_pb2.Conversion(**event.fields))
        case kind:
            action = getattr(event_pb2, f"IDENTIFY_ACTION_{kind.upper()}")
            other = unit_of(event.fields["other"])
            message.identify.CopyFrom(event_pb2.Identify(other_unit=other, action=action))
    return message


def filter_of(condition: Filter) -> filter_pb2.Filter:
    if isinstance(condition, Compare):
        values = [json_format.ParseDict(value, struct_pb2.Value()) for value in condition.values]
        operator = f"FILTER_OPERATOR_{condition.operator}"
        if condition.operator == "IN" and len(values) == 1:
            operator = "FILTER_OPERATOR_EQUAL"
        comparison = filter_pb2.FieldComparison(
            field=condition.name,
            operator=getattr(filter_pb2, operator),
            values=values,
        )
        return filter_pb2.Filter(compare=comparison)
    parts = [filter_of(part) for part in condition.parts]
    if condition.how == "not":
        return filter_pb2.Filter(negated=parts[0])
    joined = filter_pb2.FilterList(filters=parts)
    if condition.how == "all":
        return filter_pb2.Filter(all=joined)
    return filter_pb2.Filter(any=joined)


def definition_of(rules: Rules) -> pb.JourneyDefinition:
    """The definition as a user asks for it; what is the default is not sent."""
    message = pb.JourneyDefinition(event_name=rules.event_name, lookback=span(rules.lookback))
    for channel, interaction, reach in rules.windows:
        message.windows.add(channel=channel, interaction=interaction, lookback=span(reach))
    if rules.repeats != "ALL":
        message.repeat_rule = getattr(pb, f"REPEAT_RULE_{rules.repeats}")
    for name, time in (("start_time", rules.start), ("end_time", rules.end)):
        if time is not None:
            getattr(message, name).CopyFrom(stamp(time))
    if rules.point_in_time:
        message.stitching = identity_pb2.STITCHING_POINT_IN_TIME
    for name in ("conversion_filter", "touch_filter"):
        if (condition := getattr(rules, name)) is not None:
            getattr(message, name).CopyFrom(filter_of(condition))
    for touch_property, conversion_property in rules.associations:
        message.associations.add(
            touch_property=touch_property, conversion_property=conversion_property
        )
    if rules.direct != "KEEP":
        message.direct.handling = getattr(pb, f"DIRECT_HANDLING_{rules.direct}")
        if rules.direct_channels != Rules.direct_channels:
            message.direct.channels.extend(rules.direct_channels)
    _credit(message, rules)
    for kind, channels in rules.transforms:
        message.path_transforms.add(
            kind=getattr(pb, f"PATH_TRANSFORM_KIND_{kind}"), channels=channels
        )
    if rules.max_touches != Rules.max_touches:
        message.max_touches = rules.max_touches
    return message


def _credit(message: pb.JourneyDefinition, rules: Rules) -> None:
    if rules.credited.startswith("properties."):
        message.credited.property = rules.credited.removeprefix("properties.")
    elif rules.credited != "channel":
        message.credited.field = getattr(pb, f"TOUCH_FIELD_{rules.credited.upper()}")
    for condition, channel in rules.grouping:
        message.channel_grouping.rules.add(filter=filter_of(condition), channel=channel)
    if rules.otherwise:
        message.channel_grouping.otherwise = rules.otherwise


def random_rules(seed: int, count: int) -> Iterator[Rules]:
    """Definitions that combine what a definition may ask for, drawn from a seed."""
    draw = random.Random(seed)

    def perhaps(value: Any, otherwise: Any, chance: float = 0.35) -> Any:
        return value if draw.random() < chance else otherwise

    grouping = (
        (Compare("medium", "IN", ("cpc",)), "Paid"),
        (Compare("campaign", "IN", ("brand", "spring")), "Campaigns"),
        (Compare("channel", "STARTS_WITH", ("dir",)), "direct"),
    )
    for _ in range(count):
        start = START_US + draw.randrange(10, 30) * DAY
        yield Rules(
            lookback=draw.choice((*EDGES, 30 * DAY)),
            windows=perhaps((("Mail", "", 3 * DAY), ("", "impression", DAY)), ()),
            repeats=draw.choice(("ALL", "FIRST", "SPLIT")),
            start=perhaps(start, None),
            end=perhaps(start + draw.randrange(5, 25) * DAY, None),
            point_in_time=perhaps(True, False),
            conversion_filter=perhaps(Compare("value", "GREATER", (0.0,)), None),
            touch_filter=perhaps(Compare("campaign", "IS_SET"), None, 0.2),
            associations=perhaps((("product", "bought"),), ()),
            direct=draw.choice(("KEEP", "SKIP_IF_OTHER", "DROP")),
            credited=draw.choice(
                ("channel", "channel", "campaign", "source_medium", "properties.employee")
            ),
            grouping=perhaps(grouping, ()),
            otherwise=perhaps("Other", "", 0.2),
            max_touches=perhaps(3, 500, 0.2),
            transforms=perhaps(draw.choice(((("EXPOSURE", ()),), (("LAST", ()),))), (), 0.3),
        )
