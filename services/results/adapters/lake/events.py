"""The measured events of a question as few narrow columns: whose, when, which, how much."""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ibis
from ibis import ir

from services.results.adapters.lake.engine import epoch_us, rows_of
from services.results.adapters.lake.parts import Nature, Part
from services.results.domain.measure import Source
from shared.filters.filter import Filter
from shared.identity.events import OwnedEvents, owned_events
from shared.identity.ownership import Ownership
from shared.lake.filters import matches


@dataclass(frozen=True, slots=True)
class Catalogue:
    """What events a question reads: names, filters and currencies get a number each."""

    names: tuple[str, ...]
    filters: tuple[Filter, ...]
    currencies: tuple[str, ...]
    amounts: frozenset[str]
    """The events whose values are needed."""

    @staticmethod
    def of(parts: tuple[Part, ...]) -> "Catalogue":
        """What some parts read."""
        sources = [source for part in parts for source in part.sources]
        return Catalogue(
            names=tuple(sorted({source.event_name for source in sources})),
            filters=tuple(dict.fromkeys(s.filter for s in sources if s.filter is not None)),
            currencies=tuple(sorted({s.currency for s in sources if s.currency})),
            amounts=frozenset(
                part.source.event_name for part in parts if part.nature is Nature.AMOUNT
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


def peaks(narrow: ir.Table, catalogue: Catalogue) -> Mapping[str, float]:
    """For each event with values that are needed the largest of them in size."""
    return peaks_in(rows_of(peaks_table(narrow, catalogue)), catalogue)


def peaks_table(narrow: ir.Table, catalogue: Catalogue) -> ir.Table:
    """By number of the event the largest value in size."""
    numbers = [catalogue.names.index(name) for name in sorted(catalogue.amounts)]
    of_amounts = narrow.filter(narrow.name.isin(numbers)).group_by("name")
    return of_amounts.aggregate(peak=narrow.value.abs().max())


def peaks_in(rows: Sequence[Mapping[str, Any]], catalogue: Catalogue) -> Mapping[str, float]:
    """The rows of `peaks_table` by event."""
    return {catalogue.names[row["name"]]: row["peak"] or 0.0 for row in rows}
