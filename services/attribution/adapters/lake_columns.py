"""What a question asks of touchpoints and conversions, as expressions over their columns."""

from functools import reduce
from operator import add

import ibis
from ibis import ir

from services.attribution.domain.grouping import ChannelGrouping
from services.attribution.ports import NOT_SET, CreditKey, EventQuery, TouchField
from shared.lake.filters import matches, property_of

CREDITED = "credited"
MATCH = "match"
TOUCH_COLUMNS = (CREDITED, "cost", "currency")
_BETWEEN = "\x1f"


def touch_columns(touches: ir.Table, query: EventQuery) -> ir.Table:
    """The touches that count, with their channel as it is grouped and what is credited."""
    rows = _grouped(touches, query.grouping)
    if query.touch_filter is not None:
        rows = rows.filter(matches(rows, query.touch_filter))
    rows = rows.mutate(**{CREDITED: _credited(rows, query.credited)})
    return _matching(rows, [pair.touch_property for pair in query.associations])


def conversion_columns(conversions: ir.Table, query: EventQuery) -> ir.Table:
    """The conversions that count."""
    rows = conversions.filter(conversions.event_name == query.event_name)
    if query.conversion_filter is not None:
        rows = rows.filter(matches(rows, query.conversion_filter))
    return _matching(rows, [pair.conversion_property for pair in query.associations])


def milestone_rows(conversions: ir.Table, query: EventQuery) -> ir.Table | None:
    """The events of milestones, where there are any."""
    if not query.milestones:
        return None
    return conversions.filter(conversions.event_name.isin(query.milestones))


def wanted(query: EventQuery) -> tuple[str, ...]:
    """The columns of touches that only some questions need."""
    facets = ("channel", "interaction") if query.faceted else ()
    return (*facets, MATCH) if query.associations else facets


def _grouped(touches: ir.Table, grouping: ChannelGrouping) -> ir.Table:
    if not grouping.rules and not grouping.otherwise:
        return touches
    otherwise = ibis.literal(grouping.otherwise) if grouping.otherwise else touches.channel
    named = [(matches(touches, rule.filter), rule.channel) for rule in grouping.rules]
    return touches.mutate(channel=ibis.cases(*named, else_=otherwise) if named else otherwise)


def _credited(touches: ir.Table, key: CreditKey) -> ir.StringValue:
    match key:
        case TouchField.SOURCE_MEDIUM:
            return _set(touches.campaign_source) + " / " + _set(touches.medium)
        case TouchField():
            return _set(touches[key.value])
        case _:
            return _set(property_of(touches, key.key).unwrap_as("string"))


def _set(column: ir.StringValue) -> ir.StringValue:
    return column.nullif("").fill_null(NOT_SET)


def _matching(rows: ir.Table, keys: list[str]) -> ir.Table:
    """The rows with their properties as one text; null where one is missing."""
    if not keys:
        return rows
    texts = [property_of(rows, key).cast("string").nullif("null") for key in keys]
    return rows.mutate(**{MATCH: reduce(add, [text + _BETWEEN for text in texts])})
