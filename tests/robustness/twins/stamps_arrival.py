"""The events service that takes the time of arrival for the time when it happened."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from shared.lake.writer import LakeWriter
from tests.robustness.twins.replaced import replace, serve


class StampsArrival(LakeWriter):
    """Overwrites the event time."""

    def append(self, rows: Mapping[str, pa.Table], position: int) -> Any:
        return super().append({name: _stamped(part) for name, part in rows.items()}, position)


def _stamped(rows: pa.Table) -> pa.Table:
    place = rows.column_names.index("event_time")
    return rows.set_column(place, rows.schema.field(place), rows["receive_time"])


if __name__ == "__main__":
    replace("services.events.adapters.delta_sink", "LakeWriter", StampsArrival)
    serve()
