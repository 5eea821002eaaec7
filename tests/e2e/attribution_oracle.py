"""Journeys out of raw events, by plain loops: what the attribution service is checked against.

Nothing of the service is used here. Events are those that were logged; the rules are those of
docs/reference/attribution.md, read as a stranger would.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any

HOUR = 3_600_000_000
DAY = 24 * HOUR
NOT_SET = "(not set)"
DIRECT = ("direct", "Direct", "(direct)")


@dataclass(frozen=True, eq=False)
class Event:
    """An event; times in microseconds. `kind` is touch, conversion, link or unlink."""

    event_id: str
    kind: str
    unit: str
    time: int
    fields: Mapping[str, Any] = field(default_factory=dict)
    properties: Mapping[str, Any] = field(default_factory=dict)
    linked: tuple[str, ...] = ()

    @property
    def order(self) -> tuple[int, str]:
        return self.time, self.event_id

    def field(self, name: str) -> Any:
        if name.startswith("properties."):
            return self.properties.get(name.removeprefix("properties."))
        found = self.fields.get(name)
        return None if found == "" else found


@dataclass(frozen=True)
class Compare:
    """A field and what it is compared with: IN, LESS, GREATER, STARTS_WITH or IS_SET."""

    name: str
    operator: str
    values: tuple[Any, ...] = ()

    def of(self, event: Event) -> bool:
        found = event.field(self.name)
        if found is None:
            return False
        match self.operator:
            case "IS_SET":
                return True
            case "IN":
                return any(type(found) is type(v) and found == v for v in self.values)
            case "STARTS_WITH":
                return isinstance(found, str) and found.startswith(self.values)
            case "LESS":
                return isinstance(found, float) and found < self.values[0]
            case "GREATER":
                return isinstance(found, float) and found > self.values[0]
        raise AssertionError(self.operator)


@dataclass(frozen=True)
class Join:
    """Filters that are `all` true, `any` true, or `not` true."""

    how: str
    parts: tuple[Compare | Join, ...]

    def of(self, event: Event) -> bool:
        found = [part.of(event) for part in self.parts]
        return {"all": all(found), "any": any(found), "not": not found[0]}[self.how]


Filter = Compare | Join


@dataclass(frozen=True, kw_only=True)
class Rules:
    """A definition of journeys; every default is that of the reference."""

    event_name: str = "order"
    lookback: int = 30 * DAY
    windows: tuple[tuple[str, str, int], ...] = ()
    repeats: str = "ALL"
    start: int | None = None
    end: int | None = None
    point_in_time: bool = False
    conversion_filter: Filter | None = None
    touch_filter: Filter | None = None
    associations: tuple[tuple[str, str], ...] = ()
    direct: str = "KEEP"
    direct_channels: tuple[str, ...] = DIRECT
    credited: str = "channel"
    grouping: tuple[tuple[Filter, str], ...] = ()
    otherwise: str = ""
    max_touches: int = 500
    transforms: tuple[tuple[str, tuple[str, ...]], ...] = ()

    @property
    def longest(self) -> int:
        return max([self.lookback, *(reach for _, _, reach in self.windows)])

    def channel(self, touch: Event) -> str:
        named = (channel for rule, channel in self.grouping if rule.of(touch))
        return next(named, self.otherwise or touch.fields["channel"])

    def label(self, touch: Event, channel: str) -> str:
        if self.credited == "channel":
            return channel
        if self.credited == "source_medium":
            parts = (touch.field("campaign_source"), touch.field("medium"))
            return " / ".join(part or NOT_SET for part in parts)
        found = touch.field(self.credited)
        return found if isinstance(found, str) and found else NOT_SET

    def reach(self, channel: str, interaction: str) -> int:
        for names in ((channel, interaction), (channel, ""), ("", interaction)):
            for *window, reach in self.windows:
                if tuple(window) == names:
                    return reach
        return self.lookback


@dataclass(frozen=True, eq=False)
class Seen:
    """A touch of a journey: what it is credited as, and the channel that it came through."""

    touch: Event
    label: str
    channel: str
    reach: int

    @property
    def time(self) -> int:
        return self.touch.time


@dataclass(frozen=True, eq=False)
class Journey:
    """Touches, the oldest first, and the conversion that they led to, if any.

    `milestones` has for each event name the place of the last touch that was not later than it.
    """

    unit: str
    touches: tuple[Seen, ...]
    bought: Event | None = None
    milestones: Mapping[str, int] = field(default_factory=dict)

    @property
    def path(self) -> tuple[str, ...]:
        return tuple(seen.label for seen in self.touches)

    @property
    def value(self) -> float:
        return 0.0 if self.bought is None else self.bought.fields.get("value") or 0.0


@dataclass
class Found:
    """The journeys of a definition, what saw no touch, and why touches do not count.

    `reasons` has for a conversion that is read the touches of its unit within the longest
    lookback, the oldest first, each with every true reason not to count; none: it counts.
    """

    journeys: list[Journey] = field(default_factory=list)
    alone: list[Event] = field(default_factory=list)
    left_out: list[Event] = field(default_factory=list)
    reasons: dict[str, list[tuple[Seen, set[str]]]] = field(default_factory=dict)

    @property
    def converting(self) -> list[Journey]:
        return [journey for journey in self.journeys if journey.bought is not None]


class Identities:
    """Which user a device is, as links and unlinks in the order of the log say.

    The histories here never link a device to two users at once, so nothing is refused.
    """

    def __init__(self, log: Sequence[Event]) -> None:
        self._links: list[tuple[str, str, int]] = []
        for event in log:
            other = event.fields.get("other", "")
            if event.kind == "link":
                self._links.append((event.unit, other, event.time))
            elif event.kind == "unlink":
                pair = {event.unit, other}
                self._links = [link for link in self._links if {*link[:2]} != pair]

    def user(self, event: Event, point_in_time: bool) -> str | None:
        for unit in (event.unit, *event.linked):
            if unit.startswith("user:"):
                return unit
        for device, user, time in self._links:
            if device == event.unit and not (point_in_time and time > event.time):
                return user
        return None


def cut(log: Sequence[Event], rules: Rules, milestones: Iterable[str] = ()) -> Found:
    """The journeys of all units."""
    identities = Identities(log)
    begin = -1 if rules.start is None else rules.start - rules.longest
    end = 2**62 if rules.end is None else rules.end
    units: dict[str, list[Event]] = {}
    for event in sorted(log, key=lambda event: event.order):
        user = identities.user(event, rules.point_in_time)
        if begin <= event.time < end and user is not None:
            units.setdefault(user, []).append(event)
    found = Found()
    for unit, events in units.items():
        _cut_unit(unit, events, rules, tuple(milestones), found)
    return found


def _cut_unit(
    unit: str, events: list[Event], rules: Rules, milestones: tuple[str, ...], found: Found
) -> None:
    touches = [
        _seen(event, rules)
        for event in events
        if event.kind == "touch" and (rules.touch_filter is None or rules.touch_filter.of(event))
    ]
    bought = [event for event in events if _is_bought(event, rules)]
    reported = [e for e in bought if rules.start is None or e.time >= rules.start]
    if rules.repeats == "FIRST":
        found.left_out += reported[1:]
        reported = reported[:1]
    explained: set[Seen] = set()
    for conversion in bought:
        judged = _judge(conversion, touches, bought, rules)
        within = [seen for seen, reasons in judged if not reasons]
        explained.update(within)
        if conversion not in reported:
            found.reasons[conversion.event_id] = [
                (seen, {"CONVERSION_LEFT_OUT"}) for seen, _ in judged
            ]
            continue
        counts = _without_direct(within, rules)[-rules.max_touches :]
        path = _transformed([(seen, seen.label) for seen in counts], rules)
        found.reasons[conversion.event_id] = [
            (seen, reasons or _why(seen, counts, path, within, rules)) for seen, reasons in judged
        ]
        if not path:
            found.alone.append(conversion)
            continue
        places = {
            name: place
            for name in milestones
            if (place := _milestone(name, conversion, path, events, rules)) >= 0
        }
        found.journeys.append(Journey(unit, _labelled(path), conversion, places))
    if rules.repeats == "FIRST" and reported:
        explained.update(seen for seen in touches if seen.time > reported[0].time)
    for run in _runs(touches, explained, rules):
        newest = _without_direct(run, rules)[-rules.max_touches :]
        path = _transformed([(seen, seen.label) for seen in newest], rules)
        found.journeys.append(Journey(unit, _labelled(path)))


def _seen(touch: Event, rules: Rules) -> Seen:
    channel = rules.channel(touch)
    reach = rules.reach(channel, touch.fields.get("interaction", ""))
    return Seen(touch, rules.label(touch, channel), channel, reach)


def _is_bought(event: Event, rules: Rules) -> bool:
    if event.kind != "conversion" or event.fields["event_name"] != rules.event_name:
        return False
    return rules.conversion_filter is None or rules.conversion_filter.of(event)


def _judge(
    bought: Event, touches: list[Seen], every: list[Event], rules: Rules
) -> list[tuple[Seen, set[str]]]:
    """Each touch within the longest lookback, and all reasons why it does not count."""
    earlier = [other.time for other in every if other.time < bought.time]
    judged = []
    for seen in touches:
        age = bought.time - seen.time
        if not 0 <= age <= rules.longest:
            continue
        reasons = set()
        if age > seen.reach:
            reasons.add("OUTSIDE_WINDOW")
        if not all(
            _agree(seen.touch.properties.get(one), bought.properties.get(other))
            for one, other in rules.associations
        ):
            reasons.add("NOT_ASSOCIATED")
        if rules.repeats == "SPLIT" and earlier and seen.time <= max(earlier):
            reasons.add("BEFORE_PREVIOUS_CONVERSION")
        if rules.direct == "DROP" and seen.channel in rules.direct_channels:
            reasons.add("DIRECT")
        judged.append((seen, reasons))
    return judged


def _agree(one: Any, other: Any) -> bool:
    return one is not None and type(one) is type(other) and one == other


def _without_direct(run: list[Seen], rules: Rules) -> list[Seen]:
    others = [seen for seen in run if seen.channel not in rules.direct_channels]
    return others if rules.direct == "SKIP_IF_OTHER" and others else run


def _why(
    seen: Seen,
    counts: list[Seen],
    path: list[tuple[Seen, str]],
    within: list[Seen],
    rules: Rules,
) -> set[str]:
    """Why a touch that the conversion sees does not count; nothing where it does."""
    if any(seen is other for other, _ in path):
        return set()
    if seen in counts:
        return {"TRANSFORMED"}
    return {"TOO_MANY"} if seen in _without_direct(within, rules) else {"DIRECT"}


def _labelled(path: list[tuple[Seen, str]]) -> tuple[Seen, ...]:
    return tuple(replace(seen, label=label) for seen, label in path)


def _milestone(
    name: str, bought: Event, path: list[tuple[Seen, str]], events: list[Event], rules: Rules
) -> int:
    """The place of the last touch not later than the last such event before the conversion."""
    then = [
        event.time
        for event in events
        if event.kind == "conversion"
        and event.fields["event_name"] == name
        and 0 <= bought.time - event.time <= rules.longest
    ]
    return sum(seen.time <= then[-1] for seen, _ in path) - 1 if then else -1


def _runs(touches: list[Seen], explained: set[Seen], rules: Rules) -> Iterator[list[Seen]]:
    """The longest runs of touches that no conversion sees."""
    if rules.direct == "DROP":
        touches = [seen for seen in touches if seen.channel not in rules.direct_channels]
    for unseen, group in groupby(touches, key=lambda seen: seen not in explained):
        run: list[Seen] = []
        for seen in group if unseen else ():
            if run and seen.time - run[-1].time > run[-1].reach:
                yield from _reported(run, rules)
                run = []
            run.append(seen)
        yield from _reported(run, rules)


def _reported(run: list[Seen], rules: Rules) -> Iterator[list[Seen]]:
    if run and (rules.start is None or run[-1].time >= rules.start):
        yield run


def _transformed(path: list[tuple[Seen, str]], rules: Rules) -> list[tuple[Seen, str]]:
    for kind, channels in rules.transforms:
        path = _transform(path, kind, channels)
    return path


def _transform(
    path: list[tuple[Seen, str]], kind: str, channels: tuple[str, ...]
) -> list[tuple[Seen, str]]:
    labels = [label for _, label in path]
    numbers = range(len(path))
    match kind:
        case "EXPOSURE":
            kept = [n for n in numbers if n == 0 or labels[n - 1] != labels[n]]
        case "EXPOSURE_LAST":
            kept = [n for n in numbers if n == len(path) - 1 or labels[n + 1] != labels[n]]
        case "FIRST" | "FREQUENCY":
            kept = [n for n in numbers if labels[n] not in labels[:n]]
        case "LAST":
            kept = [n for n in numbers if labels[n] not in labels[n + 1 :]]
        case "REMOVE_IF_NOT_ALL":
            kept = [n for n in numbers if labels[n] not in channels]
        case "REMOVE_IF_LAST_AND_NOT_ALL":
            others = [n for n in numbers if labels[n] not in channels]
            kept = list(range(others[-1] + 1)) if others else []
        case _:
            kept = list(numbers)
    named = [(path[n][0], labels[n]) for n in kept or numbers]
    if kind == "FREQUENCY":
        named = [(seen, f"{label}({labels.count(label)})") for seen, label in named]
    return named
