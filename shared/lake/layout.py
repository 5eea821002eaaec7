"""The published layout of the event tables: their names, columns and meanings.

Each table is a Delta Lake table `<lake>/<name>`, partitioned by project and event day. The layout
is a contract with other programs: an optional column is added, none is renamed, and any other
change raises `LAYOUT_VERSION`. docs/reference/lake.md shows the same columns to people.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

LAYOUT_VERSION = 1
PARTITIONS = ("project", "day")

TEXT = pa.string()
INTEGER = pa.int64()
NUMBER = pa.float64()
INSTANT = pa.timestamp("us", tz="UTC")
DATE = pa.date32()


@dataclass(frozen=True, slots=True)
class Column:
    """One column: an optional column is null where the sender gave nothing."""

    name: str
    type: pa.DataType
    meaning: str
    optional: bool = False


@dataclass(frozen=True, slots=True)
class EventTable:
    """One kind of event: the columns that every kind has, then its own."""

    name: str
    meaning: str
    columns: tuple[Column, ...]

    @property
    def schema(self) -> pa.Schema:
        """The Arrow schema, in the order of the columns, with each meaning as a comment."""
        return pa.schema(
            [
                pa.field(c.name, c.type, nullable=c.optional, metadata={"comment": c.meaning})
                for c in self.columns
            ]
        )


COMMON_COLUMNS = (
    Column("event_id", TEXT, "Chosen by the sender; unique within the project."),
    Column("project", TEXT, "The tenant that owns the event (partition)."),
    Column("day", DATE, "UTC date of event_time (partition)."),
    Column("event_time", INSTANT, "When it happened, as the sender says."),
    Column("receive_time", INSTANT, "When the events service received it."),
    Column("unit_type", TEXT, "What kind of thing was seen: user, device, ..."),
    Column("unit_id", TEXT, "Which one of that kind."),
    Column(
        "unit_key",
        INTEGER,
        "Last 8 bytes of md5('unit_type:unit_id'), little-endian, signed: the fast join key.",
    ),
    Column("linked_units", TEXT, 'JSON list of {"type", "id"}: the same thing elsewhere.', True),
    Column("source", TEXT, "Program that sent the event.", True),
    Column("properties", TEXT, "JSON object of whatever else the sender gave.", True),
    Column("position", INTEGER, "Journal position at which the event became durable."),
    Column("content_digest", INTEGER, "Tells a repeated event from a conflicting one."),
)


def _table(name: str, meaning: str, *columns: Column) -> EventTable:
    return EventTable(name, meaning, COMMON_COLUMNS + columns)


EXPOSURES = _table(
    "exposures",
    "A unit was shown a variant of an experiment.",
    Column("experiment", TEXT, "Short id of the experiment."),
    Column("variant", TEXT, "Key of the variant shown."),
    Column("config_version", INTEGER, "Version of the experiment that decided.", True),
    Column("reason", TEXT, "Why this variant: SPLIT, OVERRIDE, ...", True),
    Column("evaluator", TEXT, "Program that decided.", True),
)
CONVERSIONS = _table(
    "conversions",
    "A unit did something that is counted or summed.",
    Column("event_name", TEXT, "What was done: purchase, visit, ..."),
    Column("value", NUMBER, "How much it was worth; finite.", True),
    Column("currency", TEXT, "ISO 4217 code of value.", True),
)
TOUCHPOINTS = _table(
    "touchpoints",
    "A unit met a marketing channel.",
    Column("channel", TEXT, "Channel: email, search, ..."),
    Column("campaign_source", TEXT, "Referrer within the channel (utm_source).", True),
    Column("medium", TEXT, "Marketing medium (utm_medium).", True),
    Column("campaign", TEXT, "Campaign (utm_campaign).", True),
    Column("content", TEXT, "Creative (utm_content).", True),
    Column("term", TEXT, "Search term (utm_term).", True),
    Column("interaction", TEXT, "impression, click, visit, ...", True),
    Column("cost", NUMBER, "What the touch cost; finite.", True),
    Column("currency", TEXT, "ISO 4217 code of cost.", True),
)
IDENTIFIES = _table(
    "identifies",
    "Two unit ids are the same thing, or turned out not to be.",
    Column("other_unit_type", TEXT, "Kind of the other unit."),
    Column("other_unit_id", TEXT, "Id of the other unit."),
    Column("action", TEXT, "unlink: earlier links of the two do not count. Null: a link.", True),
)
EVALUATIONS = _table(
    "evaluations",
    "A flag was evaluated for a unit; experiments do not read it.",
    Column("flag", TEXT, "Key of the flag."),
    Column("variant", TEXT, "Variant that was served.", True),
    Column("reason", TEXT, "Why: static, default, error, ...", True),
    Column("evaluator", TEXT, "Provider that evaluated it.", True),
    Column("flag_set", TEXT, "Set of flags that it belongs to.", True),
    Column("version", TEXT, "Version of the flag set.", True),
    Column("value_json", TEXT, "Value that was served, as JSON.", True),
    Column("error_type", TEXT, "Kind of error.", True),
)

TABLES: Mapping[str, EventTable] = MappingProxyType(
    {table.name: table for table in (EXPOSURES, CONVERSIONS, TOUCHPOINTS, IDENTIFIES, EVALUATIONS)}
)


def unit_key(unit_type: str, unit_id: str) -> int:
    """The 64-bit key of a unit: stable for ever, in every language."""
    text = f"{unit_type}:{unit_id}".encode()
    digest = hashlib.md5(text, usedforsecurity=False).digest()
    return int.from_bytes(digest[8:], "little", signed=True)


def unit_keys(unit_types: pa.ChunkedArray, unit_ids: pa.ChunkedArray) -> pa.Array:
    """`unit_key` of each unit of two columns."""
    md5 = hashlib.md5
    texts = pc.binary_join_element_wise(unit_types, unit_ids, ":").cast(pa.binary()).to_pylist()
    digests = b"".join([md5(text, usedforsecurity=False).digest() for text in texts])
    return pa.array(np.frombuffer(digests, "<i8")[1::2], INTEGER)
