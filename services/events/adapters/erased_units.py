"""Which units were erased, by the keyed digests in the ledger of erasures."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from google.protobuf.message import DecodeError
from touchstone.common.v1 import unit_pb2
from touchstone.events.v1 import event_pb2

from shared.security.erasure_ledger import ErasureLedger


@dataclass(frozen=True, slots=True)
class LedgerErasedUnits:
    """See ErasedUnits."""

    ledger: ErasureLedger

    def concern(self, project: str) -> bool:
        """See ErasedUnits."""
        return bool(self.ledger.moments(project))

    def among(
        self,
        project: str,
        unit_types: Sequence[str],
        unit_ids: Sequence[str],
        times_us: Sequence[int],
    ) -> Sequence[int]:
        """See ErasedUnits."""
        moments, digest = self.ledger.moments(project), self.ledger.digest
        if not moments:
            return ()
        return [
            place
            for place, (kind, id_, time_us) in enumerate(
                zip(unit_types, unit_ids, times_us, strict=True)
            )
            if time_us <= moments.get(digest(project, kind, id_), -1)
        ]

    def in_payload(self, project: str, payload: bytes) -> bool:
        """See ErasedUnits."""
        moments = self.ledger.moments(project)
        units = units_in(payload)
        if units is None:
            return bool(moments)
        return any(self.ledger.digest(project, kind, id_) in moments for kind, id_ in units)


def units_in(payload: bytes) -> set[tuple[str, str]] | None:
    """Every unit that an encoded event names, as type and id; None when it cannot be read."""
    try:
        event = event_pb2.Event.FromString(payload)
    except (DecodeError, RecursionError):
        return None
    return {(unit.type, unit.id) for unit in _units(event)}


def _units(event: event_pb2.Event) -> Iterator[unit_pb2.UnitId]:
    yield event.unit
    yield from event.linked_units
    yield event.identify.other_unit
