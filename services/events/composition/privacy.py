"""Choose the parts that say what may be stored: the ledger of erasures, and retention."""

import datetime as dt
from dataclasses import dataclass

import pyarrow as pa

from services.events.adapters.delta_sink import DeltaSink
from services.events.adapters.erased_units import LedgerErasedUnits
from services.events.adapters.retention_sql import KnownRetention, migrate_retention
from services.events.application.arrival_rules import ArrivalRules
from services.events.application.retention import Kept, RetentionUpkeep
from services.events.domain.dedupe import day_number
from services.events.ports import RejectedEvents
from services.events.settings import Settings
from shared.clock import Clock
from shared.lake.layout import TABLES
from shared.lake.removal import drop_days
from shared.lake.table import TableWriter
from shared.security.erasure_ledger import ErasureLedger
from shared.server.run import Platform


@dataclass(frozen=True, slots=True)
class Privacy:
    """What was erased, and how long events are kept."""

    ledger: ErasureLedger
    retention: KnownRetention
    rules: ArrivalRules


def open_privacy(settings: Settings, platform: Platform) -> Privacy:
    """Opens the ledger and reads the rules."""
    migrate_retention(platform.database)
    ledger = ErasureLedger(settings.erasures_path, platform.audit_keys)
    retention = KnownRetention(platform.database, platform.clock)
    return Privacy(ledger, retention, ArrivalRules(LedgerErasedUnits(ledger), retention))


def retention_upkeep(
    retention: KnownRetention, sink: DeltaSink, rejected: RejectedEvents, clock: Clock
) -> RetentionUpkeep:
    """What deletes by age, in turns of upkeep."""

    def drop(name: str, project: str, day: dt.date) -> int:
        return sink.change(name, lambda table: drop_days(table, project, day, clock.now()))

    def newest_day() -> int:
        days = [sink.change(name, _newest_day) for name in TABLES]
        return max(days)

    return RetentionUpkeep(Kept(retention.every, drop, rejected, newest_day, clock))


def _newest_day(table: TableWriter) -> int:
    """The newest day on which a row was received, from the statistics in the log; 0 if none."""
    files = pa.table(table.handle.get_add_actions(flatten=True))
    if "max.receive_time" not in files.column_names:
        return 0
    moments = [moment for moment in files["max.receive_time"].to_pylist() if moment is not None]
    return max((day_number(moment) for moment in moments), default=0)
