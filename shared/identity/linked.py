"""Other ids of its unit that an event names itself, in its linked units."""

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from ibis import ir

from shared.identity.belonging import NOBODY, Belonging
from shared.identity.log import UnitId
from shared.identity.ownership import Ownership
from shared.lake.texts import answer_of

Span = tuple[int, int, int, bool]
"""From, until, owner and whether there were several, as in Belonging."""


@dataclass(frozen=True, slots=True)
class LinkedUnits:
    """The distinct texts of linked units: those that name a unit of the type, with that unit in the
    columns linked_units and owner; and the units of the others, in their order.
    """

    named: pa.Table
    others: Mapping[str, Sequence[UnitId]]


def linked_units(elsewhere: ir.Table, ownership: Ownership) -> LinkedUnits:
    """What the linked units of events say. Of the others nothing is read without an identity."""
    texts = elsewhere.linked_units
    says = texts.notnull()
    if not len(ownership.identity.log):
        says = texts.contains(json.dumps(ownership.unit_type))
    found = answer_of(elsewhere.filter(says).select("linked_units").distinct())
    named: dict[str, str | int] = {}
    others: dict[str, list[UnitId]] = {}
    for text in found["linked_units"].to_pylist():
        units = [(unit["type"], unit["id"]) for unit in json.loads(text)]
        owner = next((i for id_type, i in units if id_type == ownership.unit_type), None)
        if owner is not None:
            named[text] = ownership.value(owner)
        elif units:
            others[text] = units
    owners = pa.array(named.values(), ownership.type)
    texts_of_owners = pa.array(named.keys(), pa.string())
    return LinkedUnits(pa.table({"linked_units": texts_of_owners, "owner": owners}), others)


def owners_of_others(others: Mapping[str, Sequence[UnitId]], ownership: Ownership) -> pa.Table:
    """Rows of owners for the texts that name no unit of the type: the first of their units whose
    identity holds one, at each time.

    Columns: linked_units, owner, several, from_time, until_time.
    """
    identity = ownership.identity
    rows = identity.owners(ownership.unit_type, ownership.stitching)
    codes = identity.log.codes([unit for units in others.values() for unit in units])
    columns: dict[str, list[object]] = {"linked_units": [], "owner": [], "several": []}
    times: list[tuple[int, int]] = []
    for text, units in others.items():
        known = [_spans(rows, codes[unit]) for unit in units if unit in codes]
        for begin, end, owner, several in _first_of(known, ownership.merged):
            columns["linked_units"].append(text)
            columns["owner"].append(ownership.value(identity.log.unit(owner)[1]))
            columns["several"].append(several)
            times.append((begin, end))
    instant = pa.timestamp("us", tz="UTC")
    return pa.table(
        {
            "linked_units": pa.array(columns["linked_units"], pa.string()),
            "owner": pa.array(columns["owner"], ownership.type),
            "several": pa.array(columns["several"], pa.bool_()),
            "from_time": pa.array([begin for begin, _ in times], pa.int64()).cast(instant),
            "until_time": pa.array([end for _, end in times], pa.int64()).cast(instant),
        }
    )


def _spans(rows: Belonging, code: int) -> list[Span]:
    begin, end = np.searchsorted(rows.units, [code, code + 1]).tolist()
    part = slice(begin, end)
    columns = (rows.from_us[part], rows.until_us[part], rows.owners[part], rows.several[part])
    return list(zip(*(column.tolist() for column in columns), strict=True))


def _first_of(known: Sequence[Sequence[Span]], merged: bool) -> Iterator[Span]:
    """The spans of the first that has an owner alone, else of the first that has several."""
    ends = sorted({end for spans in known for span in spans for end in span[:2]})
    for begin, end in itertools.pairwise(ends):
        found = [s for spans in known for s in spans if s[0] <= begin and end <= s[1]]
        alone = next((span for span in found if merged or not span[3]), None)
        best = alone or next(iter(found), (0, 0, NOBODY, False))
        if best[2] != NOBODY:
            yield begin, end, best[2], best[3]
