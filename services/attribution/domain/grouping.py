"""Channels by rules: the first rule that a touch fulfils names its channel."""

from dataclasses import dataclass

from shared.filters.filter import Filter
from shared.filters.judge import Event, fulfils


@dataclass(frozen=True, slots=True)
class ChannelRule:
    """Touches that fulfil the filter are of the channel."""

    filter: Filter
    channel: str


@dataclass(frozen=True, slots=True)
class ChannelGrouping:
    """Rules in order, and the channel of touches that fulfil none (empty: the one sent).

    `name` and `version` say which kept grouping they were taken from; empty and 0: none.
    """

    rules: tuple[ChannelRule, ...] = ()
    otherwise: str = ""
    name: str = ""
    version: int = 0


AS_SENT = ChannelGrouping()


def channel_of(event: Event, grouping: ChannelGrouping) -> tuple[str, int | None]:
    """The channel of a touch, and the number of the rule that named it, from 0; None: none did."""
    for number, rule in enumerate(grouping.rules):
        if fulfils(event, rule.filter):
            return rule.channel, number
    return grouping.otherwise or str(event["channel"]), None
