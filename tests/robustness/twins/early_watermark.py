"""The events service that tells readers of a commit before the tables hold it."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping

import pyarrow as pa

from shared.lake.watermark import Watermark, write_watermark
from shared.lake.writer import LakeWriter
from tests.robustness.twins.replaced import replace, serve


class EarlyWatermark(LakeWriter):
    """Moves the watermark first, then writes."""

    def append(self, rows: Mapping[str, pa.Table], position: int) -> Watermark:
        early = dataclasses.replace(self._watermark, position=position)
        write_watermark(self._lake, early)
        time.sleep(0.3)
        return super().append(rows, position)


if __name__ == "__main__":
    replace("services.events.adapters.delta_sink", "LakeWriter", EarlyWatermark)
    serve()
