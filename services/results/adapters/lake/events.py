"""The measured events of a question as few narrow columns: whose, when, which, how much."""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import ibis
from ibis import ir

from services.results.adapters.lake.engine import epoch_us, rows_of
from services.results.adapters.lake.parts import Nature, Part
from services.results.domain.measure import Aggregation, Source
from shared.filters.filter import Filter
from shared.identity.events import OwnedEvents, owned_events
from shared.identity.ownership import Ownership
from shared.lake.filters import matches

Peaks = tuple[float, ...]
"""The largest values in size of the sources whose values are needed, in their order."""


def values_of(source: Source) -> Source:
    """The same for all sources with the same values, whatever becomes of those of a unit."""
    return replace(source, aggregation=Aggregation.SUM)


@dataclass(frozen=True, slots=True)
class Catalogue:
    """What events a question reads: names, filters and currencies get a number each."""

    names: tuple[str, ...]
    filters: tuple[Filter, ...]
    currencies: tuple[str, ...]
    amounts: tuple[Source, ...]
    """The sources whose values are needed, each as `values_of` gives it."""

    @staticmethod
    def of(parts: tuple[Part, ...]) -> "Catalogue":
        """What some parts read."""
        sources = [source for part in parts for source in part.sources]
        return Catalogue(
            names=tuple(sorted({source.event_name for source in sources})),
            filters=tuple(dict.fromkeys(s.filter for s in sources if s.filter is not None)),
            currencies=tuple(sorted({s.currency for s in sources if s.currency})),
            amounts=tuple(
                dict.fromkeys(values_of(p.source) for p in parts if p.nature is Nature.AMOUNT)
            ),
        )

    def columns(self) -> tuple[str, ...]:
        """The columns of the narrow events besides the unit and the time."""
        flags = [f"filter_{n}" for n in range(len(self.filters))]
        of_currency = [f"currency_{n}" for n in range(len(self.currencies))]
        return ("name", "value", *flags, *of_currency)

    def is_of(self, events: ir.Table, source: Source) -> ir.BooleanValue:
        """Whether a narrow event is of a source."""
        named = events.name == self.names.index(source.event_name)
        if source.filter is None:
            return named
        return named & events[f"filter_{self.filters.index(source.filter)}"]

    def has_value(self, events: ir.Table, source: Source) -> ir.BooleanValue:
        """Whether a narrow event has a value that counts for a source."""
        if not source.currency:
            return events.value.notnull()
        return events[f"currency_{self.currencies.index(source.currency)}"]


def narrow_events(
    conversions: ir.Table, catalogue: Catalogue, since: dt.datetime, ownership: Ownership
) -> OwnedEvents:
    """The events of the catalogue from a time on with their units: unit_key, us (the time in
    microseconds), name (its number), value, and whether they match each filter and currency.
    """
    wanted = conversions.filter(
        conversions.event_name.isin(list(catalogue.names)),
        conversions.day >= ibis.literal(since.date()),
        conversions.event_time >= ibis.literal(since),
    )
    flags = {f"filter_{n}": matches(wanted, one) for n, one in enumerate(catalogue.filters)}
    valued = wanted.value.notnull()
    of_currency = {
        f"currency_{n}": valued & (wanted.currency == one).fill_null(False)
        for n, one in enumerate(catalogue.currencies)
    }
    number = wanted.event_name.cases(*((name, n) for n, name in enumerate(catalogue.names)))
    marked = wanted.mutate(name=number.cast("int16"), **flags, **of_currency)
    columns = catalogue.columns()
    owned = owned_events(marked, ("event_time", *columns), ownership)
    rows = owned.rows.select("unit_key", *columns, us=epoch_us(owned.rows.event_time))
    return OwnedEvents(rows, owned.ambiguous)


def peaks(narrow: ir.Table, catalogue: Catalogue) -> Peaks:
    """For each source whose values are needed the largest of them in size."""
    return peaks_in(rows_of(peaks_table(narrow, catalogue)), catalogue)


def peaks_table(narrow: ir.Table, catalogue: Catalogue) -> ir.Table:
    """One row with the largest value in size of each source: peak_0, peak_1, ..."""
    largest = {
        f"peak_{n}": narrow.value.abs().max(
            where=catalogue.is_of(narrow, source) & catalogue.has_value(narrow, source)
        )
        for n, source in enumerate(catalogue.amounts)
    }
    return narrow.aggregate(rows=narrow.count(), **largest)


def peaks_in(rows: Sequence[Mapping[str, Any]], catalogue: Catalogue) -> Peaks:
    """The row of `peaks_table` by source; 0 where there is no value."""
    (row,) = rows
    return tuple(row[f"peak_{n}"] or 0.0 for n in range(len(catalogue.amounts)))
