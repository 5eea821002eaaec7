"""Exact sums over clusters: the sums of each cluster's units, their squares and products.

A row for each cluster and arm is made once; products between the arms of one cluster come from
joining these rows with themselves, so that no number of arms makes the query wide.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement, product

import ibis
import numpy as np
from ibis import ir

from services.results.adapters.lake.columns import Layout
from services.results.adapters.lake.engine import row_of, rows_of, stored
from services.results.adapters.lake.grouped_units import CLUSTER, PERIOD, cluster_columns
from services.results.adapters.lake.groups import Values
from services.results.adapters.lake.parts import needed_age
from services.results.adapters.lake.sums import EXACT, Key, Row, by_key
from services.results.domain.clustering import Clustered, Windows
from services.results.domain.exact import Cell, Sums, scaled
from services.results.domain.measure import ColumnRole, Measure
from services.results.domain.observation import Question
from shared.errors import limit_exceeded

MOST_WINDOWS = 20_000
"""So many groups of region, window and arm are tested by permutation."""


@dataclass(frozen=True, slots=True)
class Grouping:
    """Units with their clusters, the rows of those with events, and how numbers are made."""

    units: ir.Table
    values: ir.Table
    layouts: tuple[Layout, ...]
    slots: Values
    data_us: int


def unclustered_units(units: ir.Table, question: Question) -> int:
    """How many units of arms have no cluster."""
    if question.clustering is None or not question.clustering.named:
        return 0
    without = units.filter(units.arm.notnull(), units[CLUSTER].isnull())
    return int(row_of(without.aggregate(units=without.count()))["units"])


def assigned_clusters(units: ir.Table, question: Question) -> tuple[int, ...]:
    """By arm the clusters whose first unit is in it; none where a tenth of the clusters or more
    have units of several arms.

    Under either way to draw arms, for clusters or for units, that of one unit is drawn by the
    weights, and clusters are independent.
    """
    by = list(cluster_columns(question))
    if not by:
        return ()
    counted = units.filter(units.arm.notnull())
    if CLUSTER in by:
        counted = counted.filter(counted[CLUSTER].notnull())
    first = ibis.struct({name: counted[name] for name in ("first_us", "unit_key", "arm")}).min()
    several = counted.arm.min() < counted.arm.max()
    clusters = counted.group_by(by).aggregate(first=first, several=several)
    clusters = clusters.mutate(arm=clusters["first"]["arm"])
    rows = rows_of(
        clusters.group_by("arm").aggregate(clusters=clusters.count(), mixed=clusters.several.sum())
    )
    found = {row["arm"]: int(row["clusters"]) for row in rows}
    if 10 * sum(int(row["mixed"]) for row in rows) >= sum(found.values()):
        return ()
    return tuple(found.get(arm, 0) for arm in range(len(question.plan.arms)))


def clustered(question: Question, grouping: Grouping) -> tuple[Clustered, ...]:
    """The sums of every measure over clusters."""
    if question.clustering is None:
        return ()
    parts = [_Part.of(question, grouping, None, ((),))]
    for n, values in enumerate(grouping.slots):
        slots = tuple((value.slot,) for value in values)
        parts.append(_Part.of(question, grouping, f"slot_{n}", slots))
    windows = _windows(question, grouping, parts[0])
    return tuple(
        _clustered(question, number, grouping.layouts[number], parts, windows)
        for number in range(len(question.measures))
    )


@dataclass(frozen=True, slots=True)
class _Part:
    """The slices of a dimension, or everybody: rows of sums by slot and pairs of arms."""

    slots: tuple[Key, ...]
    rows: ir.Table
    of_arms: Mapping[Key, Row]
    of_clusters: Mapping[Key, Row]
    of_pairs: Mapping[Key, Row]

    @staticmethod
    def of(
        question: Question, grouping: Grouping, slot: str | None, slots: tuple[Key, ...]
    ) -> "_Part":
        keys = [] if slot is None else [slot]
        rows = stored("cluster_rows", _cluster_rows(question, grouping, keys))
        measures = range(len(question.measures))
        counts = {f"clusters_{m}": (rows[f"n_{m}"] > 0).sum() for m in measures}
        columns = _columns(question)
        sums = {f"sum_{name}": rows[name].sum().cast(EXACT) for name in columns}
        of_arms = rows.group_by([*keys, "arm"]).aggregate(**counts, **sums)
        clusters = rows.group_by([*keys, *cluster_columns(question)]).aggregate(**counts)
        over_arms = {f"all_{m}": (clusters[f"clusters_{m}"] > 0).sum() for m in measures}
        mixed = {f"mixed_{m}": (clusters[f"clusters_{m}"] > 1).sum() for m in measures}
        of_clusters = (
            clusters.mutate(one=0).group_by([*keys, "one"]).aggregate(**over_arms, **mixed)
        )
        return _Part(
            slots,
            rows,
            by_key(rows_of(of_arms), [*keys, "arm"]),
            by_key(rows_of(of_clusters.drop("one")), keys),
            by_key(rows_of(_pairs(question, rows, keys)), [*keys, "arm", "other_arm"]),
        )


def _cluster_rows(question: Question, grouping: Grouping, keys: Sequence[str]) -> ir.Table:
    """A row for each cluster and arm: for each measure how many units count (n_<m>) and the exact
    sum of each of its columns (t_<m>_<c>).
    """
    by = [*keys, *cluster_columns(question), "arm"]
    units = grouping.units.filter(grouping.units.arm.notnull())
    values = grouping.values
    if question.clustering is not None and question.clustering.named:
        units = units.filter(units[CLUSTER].notnull())
        values = values.filter(values[CLUSTER].notnull())
    sizes = {}
    for m, measure in enumerate(question.measures):
        age = needed_age(measure) if measure.needs_age else None
        old = None if age is None else units.first_us <= grouping.data_us - age
        sizes[f"n_{m}"] = units.count(where=old)
    of_units = units.group_by(by).aggregate(**sizes)
    numbers = {
        f"w_{m}_{c}": number
        for m, layout in enumerate(grouping.layouts)
        for c, number in enumerate(layout.of(values, grouping.data_us))
    }
    whole = values.select(*by, **numbers)
    summed = {f"s{name}": whole[name].cast(EXACT).sum() for name in numbers}
    if not summed:
        return of_units
    of_values = whole.group_by(by).aggregate(**summed).rename({f"v_{name}": name for name in by})
    joined = of_units.left_join(of_values, [of_units[k] == of_values[f"v_{k}"] for k in by])
    totals = {}
    for m, layout in enumerate(grouping.layouts):
        for c, column in enumerate(layout.columns):
            number = joined[f"sw_{m}_{c}"].fill_null(0).cast(EXACT)
            # Each unit that counts begins at the default of the column.
            totals[f"t_{m}_{c}"] = (number + joined[f"n_{m}"] * column.default).cast(EXACT)
    return joined.select(*by, *sizes, **totals)


def _columns(question: Question) -> list[str]:
    """The columns of all measures in the rows of clusters."""
    return [name for m, measure in enumerate(question.measures) for name in _names(m, measure)]


def _names(m: int, measure: Measure) -> list[str]:
    """The columns of a measure and then the number of units. A column that says that a unit is old
    enough is that number, too.
    """
    names, place = [], 0
    for column in measure.columns:
        if column.role is ColumnRole.ELIGIBLE:
            names.append(f"n_{m}")
            continue
        names.append(f"t_{m}_{place}")
        place += 1
    return [*names, f"n_{m}"]


def _pairs(question: Question, rows: ir.Table, keys: Sequence[str]) -> ir.Table:
    """By pair of arms the sums over clusters of the products of their columns."""
    by = [*keys, *cluster_columns(question)]
    other = rows.rename({f"other_{name}": name for name in rows.columns})
    match = [rows[key] == other[f"other_{key}"] for key in by]
    both = rows.join(other, [*match, rows.arm <= other.other_arm])
    products = {}
    for m, measure in enumerate(question.measures):
        names = list(dict.fromkeys(_names(m, measure)))
        for left, right in product(names, names):
            term = both[left].cast(EXACT) * both[f"other_{right}"].cast(EXACT)
            products[f"{left}*{right}"] = term.sum().cast(EXACT)
    return both.group_by([*keys, "arm", "other_arm"]).aggregate(**products)


def _clustered(
    question: Question,
    number: int,
    layout: Layout,
    parts: Sequence[_Part],
    windows: Sequence[Windows | None],
) -> Clustered:
    measure, arms = question.measures[number], range(len(question.plan.arms))
    exponents = [*_exponents(measure, layout), 0]
    counts, mixed, cells = [], [], []
    for part in parts:
        for slot in part.slots:
            row = part.of_clusters.get(slot, {})
            found = [part.of_arms.get((*slot, arm), {}) for arm in arms]
            counts.append(tuple(int(one.get(f"clusters_{number}", 0)) for one in found))
            mixed.append(int(row.get(f"mixed_{number}", 0)))
            cells.append((_joint(question, number, part, slot),))
    joint = Sums(tuple(exponents) * len(arms), tuple(cells))
    return Clustered(tuple(counts), tuple(mixed), joint, windows[number])


def _joint(question: Question, number: int, part: _Part, slot: Key) -> Cell:
    names = _names(number, question.measures[number])
    places = [(arm, name) for arm in range(len(question.plan.arms)) for name in names]
    sums = [int(part.of_arms.get((*slot, arm), {}).get(f"sum_{name}") or 0) for arm, name in places]
    products = [
        int(part.of_pairs.get((*slot, arm, other), {}).get(f"{left}*{right}") or 0)
        for (arm, left), (other, right) in combinations_with_replacement(places, 2)
    ]
    every = int(part.of_clusters.get(slot, {}).get(f"all_{number}", 0))
    return Cell(every, tuple(sums), tuple(products))


def _exponents(measure: Measure, layout: Layout) -> Iterator[int]:
    of_parts = {whole.column: whole.scale.final for whole in layout.columns}
    return (of_parts.get(column, 0) for column in measure.columns)


def _windows(question: Question, grouping: Grouping, part: _Part) -> Sequence[Windows | None]:
    """For each measure the sums by window of time; None without a switchback."""
    clustering = question.clustering
    if clustering is None or clustering.switchback is None:
        return [None] * len(question.measures)
    rows = part.rows.order_by([*cluster_columns(question), "arm"])
    found = rows_of(rows.limit(MOST_WINDOWS + 1))
    if len(found) > MOST_WINDOWS:
        raise limit_exceeded("windows of a switchback", len(found), MOST_WINDOWS)
    regions = {name: n for n, name in enumerate(dict.fromkeys(row.get(CLUSTER) for row in found))}
    made = []
    for m, measure in enumerate(question.measures):
        names = _names(m, measure)[:-1]
        steps = np.array(list(_exponents(measure, grouping.layouts[m])), dtype=np.intp)
        whole = np.array([[int(row[name]) for name in names] for row in found], dtype=object)
        whole = whole.reshape(len(found), len(names))
        made.append(
            Windows(
                period=np.array([row[PERIOD] for row in found], dtype=np.intp),
                region=np.array([regions[row.get(CLUSTER)] for row in found], dtype=np.intp),
                arm=np.array([row["arm"] for row in found], dtype=np.intp),
                size=np.array([row[f"n_{m}"] for row in found], dtype=np.float64),
                totals=scaled(whole, np.ones_like(whole), steps),
            )
        )
    return made
