"""What must not be stored although it keeps the contract: erased units, and what is too old."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from services.events.batch import LINKED_UNITS, SCHEMAS, UNIT_ID, UNIT_TYPE, Portion
from services.events.domain.instant import rfc3339
from services.events.domain.rejection import ERASED, Reason, RejectedEvent, Rejection
from services.events.ports import ErasedUnits, RetentionRules
from shared.lake.layout import IDENTIFIES

_OTHER_TYPE, _OTHER_ID = (
    SCHEMAS[IDENTIFIES.name].get_field_index(name) for name in ("other_unit_type", "other_unit_id")
)


@dataclass(frozen=True, slots=True)
class ArrivalRules:
    """Judges events as they arrive. For a project without such rules it costs two lookups."""

    erased: ErasedUnits
    retention: RetentionRules

    def apply(self, project: str, portion: Portion, rejected: dict[int, Rejection]) -> Portion:
        """The events that may be stored. The others are added to `rejected` by their place."""
        oldest_us = self.retention.oldest_us(project, portion.table)
        if oldest_us > 0:
            young = portion.times_us >= oldest_us
            if not young.all():
                rejected.update(_too_old(portion.where(~young), oldest_us))
                portion = portion.where(young)
        if len(portion) and self.erased.concern(project):
            erased = self._erased(project, portion)
            if erased:
                left = np.ones(len(portion), bool)
                left[erased] = False
                rejected.update(_erased(portion.where(~left)))
                portion = portion.where(left)
        return portion

    def keepable(self, project: str, rejected: Sequence[RejectedEvent]) -> list[RejectedEvent]:
        """Those of which anything may be kept: none that mentions an erased unit."""
        concerned = self.erased.concern(project)
        return [
            event
            for event in rejected
            if event.rejection.reason is not Reason.UNIT_ERASED
            and not (concerned and self.erased.in_payload(project, event.payload))
        ]

    def _erased(self, project: str, portion: Portion) -> list[int]:
        rows, types, ids = _mentions(portion)
        times = portion.times_us
        found = self.erased.among(project, types, ids, [int(times[row]) for row in rows])
        return sorted({rows[place] for place in found})


def _mentions(portion: Portion) -> tuple[list[int], list[str], list[str]]:
    """Every unit that the events name: its row, its type and its id."""
    rows = list(range(len(portion)))
    types: list[str] = portion.columns[UNIT_TYPE].to_pylist()
    ids: list[str] = portion.columns[UNIT_ID].to_pylist()
    if portion.table == IDENTIFIES.name:
        rows += list(range(len(portion)))
        types += portion.columns[_OTHER_TYPE].to_pylist()
        ids += portion.columns[_OTHER_ID].to_pylist()
    linked = portion.columns[LINKED_UNITS]
    if linked.null_count < len(linked):
        for row, kind, id_ in _linked(linked.to_pylist()):
            rows.append(row)
            types.append(kind)
            ids.append(id_)
    return rows, types, ids


def _linked(column: Sequence[str | None]) -> Iterator[tuple[int, str, str]]:
    for row, text in enumerate(column):
        if text is not None:
            for unit in json.loads(text):
                yield row, unit["type"], unit["id"]


def _erased(portion: Portion) -> dict[int, Rejection]:
    return {
        place: Rejection(event_id, Reason.UNIT_ERASED, "unit", ERASED)
        for place, event_id in _named(portion)
    }


def _too_old(portion: Portion, oldest_us: int) -> dict[int, Rejection]:
    times = portion.times_us.tolist()
    return {
        place: Rejection(
            event_id,
            Reason.EVENT_TIME_OUT_OF_RANGE,
            "event_time",
            f"is {rfc3339(time_us)}, before what the project keeps of {portion.table}; allowed: "
            f"from {rfc3339(oldest_us)}: leave the event out, or keep events for longer with "
            "UpdateRetention",
        )
        for (place, event_id), time_us in zip(_named(portion), times, strict=True)
    }


def _named(portion: Portion) -> list[tuple[int, str]]:
    return list(zip(portion.places.tolist(), portion.ids, strict=True))


class _Nothing:
    """Nothing is erased, and everything is kept."""

    def concern(self, project: str) -> bool:
        """See ErasedUnits."""
        del project
        return False

    def among(
        self,
        project: str,
        unit_types: Sequence[str],
        unit_ids: Sequence[str],
        times_us: Sequence[int],
    ) -> Sequence[int]:
        """See ErasedUnits."""
        del project, unit_types, unit_ids, times_us
        return ()

    def in_payload(self, project: str, payload: bytes) -> bool:
        """See ErasedUnits."""
        del project, payload
        return False

    def oldest_us(self, project: str, table: str) -> int:
        """See RetentionRules."""
        del project, table
        return 0


NO_RULES = ArrivalRules(_Nothing(), _Nothing())
"""Everything that keeps the contract may be stored."""
