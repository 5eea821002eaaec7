"""The composed service under traffic that never pauses."""

import time

from shared.lake.watermark import ConsistencyToken, read_watermark
from tests.unit.events import test_events_service as whole

service = whole.service


async def test_steady_traffic_costs_one_commit_an_interval(service: whole.Service) -> None:
    began = time.monotonic()
    batches = 0
    while time.monotonic() - began < 2.0:
        reply = await service.log(whole.conversion(f"{batches}"))
        batches += 1
    seconds = time.monotonic() - began
    mark = read_watermark(service.settings.lake_path)
    assert mark is not None
    commits = mark.table_versions["conversions"]
    assert 1 <= commits <= seconds / service.settings.flush_interval_s + 1, f"{batches} batches"
    behind = ConsistencyToken.decode(reply.consistency_token).position - mark.position
    assert behind < batches * 0.9, "and events become readable meanwhile"
