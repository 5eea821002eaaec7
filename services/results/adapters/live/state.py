"""The tables of a state: units, events, numbers of units, and sums, in one file.

units        what each unit saw, as exposed_units gives it
events       the measured events, as narrow_events gives them
unit_values  the numbers of units with events, as unit_values gives them
sums_<n>     for each dimension, or without any for all, changes of counts and sums by value and
             arm; their total is what holds now
facts        one row of text
"""

from collections.abc import Callable, Iterable, MutableMapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import ibis
import pyarrow as pa
from ibis import ir

from services.results.adapters.lake.columns import BITS, Layout, Scales, scale_of
from services.results.adapters.lake.engine import getvariable
from services.results.adapters.lake.exposed import dimension_columns
from services.results.adapters.lake.groups import Grouped, Values, ages_of
from services.results.adapters.lake.parts import parts_of
from services.results.adapters.lake.slices import ranks_of, slots_table, values_in
from services.results.adapters.lake.sums import EXACT, by_key, sum_names
from services.results.adapters.live.facts import Facts
from services.results.domain.observation import Question

MOST_CHANGES = 10_000
"""So many rows of sums may stand for a tenth of them before they are added up."""


AFTER, BEFORE = getvariable("after_us"), getvariable("before_us")
"""How old the data is in the cut that a state comes to, and in the one that it shows."""
Build = Callable[[], "ir.Table | None"]


@dataclass(frozen=True, slots=True)
class State:
    """The tables of a question, inside one transaction of a connection.

    `plans` are the texts of its queries by what they do, kept from one refresh to the next: to
    write one anew takes longer than to run it on a few thousand rows. What a text depends on,
    besides the question, is part of its name.
    """

    engine: ibis.BaseBackend
    question: Question
    plans: MutableMapping[str, str]

    def table(self, name: str) -> ir.Table:
        """One of the tables, as it is at this moment of the transaction."""
        return self.engine.table(name)

    def moments(self, before_us: int, after_us: int) -> None:
        """Say how old the data was and is: the values of BEFORE and AFTER."""
        self._run(f"SET VARIABLE before_us = {before_us}::BIGINT")
        self._run(f"SET VARIABLE after_us = {after_us}::BIGINT")

    def facts(self) -> Facts | None:
        """What was written last; None in a new file."""
        self._run("CREATE TABLE IF NOT EXISTS facts (text VARCHAR)")
        found = self.engine.con.execute("SELECT text FROM facts").fetchall()
        return Facts.decode(found[0][0], self.question) if found else None

    def write_facts(self, facts: Facts) -> None:
        """Put facts in the place of those before."""
        self._run("DELETE FROM facts")
        self.engine.con.execute("INSERT INTO facts VALUES (?)", [facts.encode()])

    def size(self, name: str) -> int:
        """How many rows a table has."""
        ((count,),) = self.engine.con.execute(f"SELECT count(*) FROM {name}").fetchall()  # noqa: S608  names are ours
        return int(count)

    def rows(self, step: str, build: Build) -> list[dict[str, Any]]:
        """The rows of a small answer."""
        plan = self._plan(step, build)
        found: list[dict[str, Any]] = self.engine.con.sql(plan).to_arrow_table().to_pylist()
        return found

    def fill(self, name: str, rows: pa.RecordBatchReader) -> None:
        """Make a table anew of rows that come in batches."""
        self.engine.con.register("incoming", rows)
        self._run(f"CREATE OR REPLACE TABLE {name} AS SELECT * FROM incoming")  # noqa: S608  as above
        self.engine.con.unregister("incoming")

    def take(self, name: str, query: str) -> None:
        """The rows of a query as a table that goes with the connection."""
        self._run(f"CREATE TEMP TABLE {name} AS {query}")

    def pick(self, name: str, source: str, units: str) -> None:
        """The rows of a table that are of the units of another, with their `place`."""
        theirs = f"SELECT unit_key FROM {units}"  # noqa: S608  names are ours
        rows = f"SELECT rowid AS place, * FROM {source} WHERE unit_key IN ({theirs})"  # noqa: S608
        self.take(name, rows)

    def make(self, name: str, build: Build, *, again: str | None = "") -> None:
        """A table that goes with the connection. `again` is what the text of its query depends on;
        None for one that cannot be used again.
        """
        step = f"make {name} {again}"
        if again is None:
            self.plans.pop(step, None)
        self._run(f"CREATE TEMP TABLE {name} AS {self._plan(step, build)}")

    def keep(self, name: str, build: Build, *, again: str | None) -> None:
        """Make a table of the state anew; `again` as for `make`."""
        step = f"keep {name} {again}"
        if again is None:
            self.plans.pop(step, None)
        self._run(f"CREATE OR REPLACE TABLE {name} AS {self._plan(step, build)}")

    def copy(self, name: str, source: str) -> None:
        """Add the rows of another table."""
        self._run(f"INSERT INTO {name} BY NAME SELECT * FROM {source}")  # noqa: S608  names are ours

    def delete(self, name: str, picked: str) -> None:
        """Remove the rows that were picked into another table: by place, so that no key is read."""
        places = f"SELECT place FROM {picked}"  # noqa: S608  names are ours
        self._run(f"DELETE FROM {name} WHERE rowid IN ({places})")  # noqa: S608  as above

    def groupings(self) -> list[tuple[str, tuple[str, ...]]]:
        """The tables of sums with the columns of units that they are by."""
        columns = list(dimension_columns(self.question).values())
        keys: list[tuple[str, ...]] = [(column, "arm") for column in columns] or [("arm",)]
        return [(f"sums_{n}", key) for n, key in enumerate(keys)]

    def make_sums(self) -> None:
        """Empty tables of sums."""
        names = ["units", *(f"age_{age}" for age in ages_of(self.question))]
        for m, layout in enumerate(unscaled(self.question)):
            names += sum_names(m, layout)
        columns = ", ".join(f"{name} DECIMAL(38, 0)" for name in names)
        for table, _ in self.groupings():
            self._run(f"CREATE OR REPLACE TABLE {table} (value VARCHAR, arm SMALLINT, {columns})")

    def change(self, table: str, step: str, build: Build, sign: int) -> None:
        """Add rows of counts or sums by value and arm, or take them away."""
        plan = self._plan(f"change {table} {step} {sign}", lambda: _signed(build(), sign))
        if plan:
            self._run(f"INSERT INTO {table} BY NAME {plan}")

    def clear(self, table: str, names: Iterable[str]) -> None:
        """Forget all that was summed up under these names."""
        nothing = ", ".join(f"{name} = NULL" for name in names)
        self._run(f"UPDATE {table} SET {nothing}")  # noqa: S608  names are ours

    def settle(self) -> None:
        """Add up the changes where they have become many."""
        for table, _ in self.groupings():
            if self.size(table) <= MOST_CHANGES:
                continue
            self.make(f"added_{table}", partial(self._total, table))
            if self.size(table) > 10 * self.size(f"added_{table}"):
                self._run(f"DELETE FROM {table}")  # noqa: S608  names are ours
                self.copy(table, f"added_{table}")

    def counts(self) -> Grouped:
        """The counts of all units by arm alone: every grouping holds each of them once."""
        found = self.rows("counts", self._counts)
        return Grouped((by_key([row for row in found if row["units"]], ("arm",)),))

    def grouped(self) -> tuple[Grouped, Values]:
        """All counts and sums by slot and arm, and what the slots stand for."""
        if not self.question.dimensions:
            found = self.rows("grouped", lambda: self._total("sums_0").drop("value"))
            groups = by_key([row for row in found if row["units"]], ("arm",))
            return Grouped((groups,), (groups,)), ()
        both = [self._sliced(table) for table, _ in self.groupings()]
        groups_of = tuple(groups for groups, _ in both)
        return Grouped(groups_of, groups_of), tuple(values for _, values in both)

    def _counts(self) -> ir.Table:
        rows = self.table("sums_0")
        names = ("units", *(f"age_{age}" for age in ages_of(self.question)))
        return rows.group_by("arm").aggregate(**{n: rows[n].sum().cast(EXACT) for n in names})

    def _total(self, table: str) -> ir.Table:
        rows = self.table(table)
        return rows.group_by("value", "arm").aggregate(**_added(rows))

    def _sliced(self, table: str) -> tuple[Any, Any]:
        found = self.rows(f"sliced {table}", partial(self._by_slot, table))
        ranks = self.rows(f"ranks {table}", lambda: slots_table(self._ranks(table)))
        named = [row for row in found if row["units"]]
        return by_key(named, ("slot", "arm")), values_in(ranks)

    def _ranks(self, table: str) -> ir.Table:
        rows = self.table(table)
        sizes = rows.group_by("value").aggregate(units=rows.units.sum())
        return ranks_of(sizes.filter(sizes.units > 0))

    def _by_slot(self, table: str) -> ir.Table:
        rows, ranks = self.table(table), self._ranks(table)
        named = ranks.select(slot=ranks["rank"], ranked=ranks.value)
        both = rows.inner_join(named, rows.value.identical_to(named.ranked))
        return both.group_by("slot", "arm").aggregate(**_added(both, leave=("slot", "ranked")))

    def _plan(self, step: str, build: Build) -> str:
        """The text of a query, empty where there is nothing to ask; it goes by what it does."""
        if step not in self.plans:
            expression = build()
            self.plans[step] = "" if expression is None else self._sql(expression)
        return self.plans[step]

    def _sql(self, expression: ir.Table) -> str:
        return str(self.engine.compile(expression))

    def _run(self, sql: str) -> None:
        self.engine.con.execute(sql)


def unscaled(question: Question) -> tuple[Layout, ...]:
    """The columns of each measure, however their numbers are counted."""
    parts = parts_of(question)
    return Scales(parts, tuple(scale_of(p, 0, 0.0, BITS) for p in parts), {}).layouts(question)


def _signed(rows: ir.Table | None, sign: int) -> ir.Table | None:
    if rows is None:
        return None
    keys = [name for name in rows.columns if name == "arm" or name.startswith("dimension_")]
    value = next((rows[name] for name in keys if name != "arm"), ibis.null("string"))
    numbers = {n: rows[n].cast(EXACT) * sign for n in rows.columns if n not in keys}
    return rows.select(value=value, arm=rows.arm, **numbers)


def _added(rows: ir.Table, leave: tuple[str, ...] = ()) -> dict[str, ir.Value]:
    keys = ("value", "arm", *leave)
    return {n: rows[n].sum().cast(EXACT) for n in rows.columns if n not in keys}
