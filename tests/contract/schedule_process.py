"""A process that keeps schedules on a database, one look for each line that it reads.

A line is the number of hours after START that its clock shows; the answer is how many steps it
took. Started by the tests: `python -m tests.contract.schedule_process URL AUDIT_KEY`.
"""

import asyncio
import datetime as dt
import sys

from services.assignment.adapters.schedule_keeper import ScheduleKeeper
from services.assignment.adapters.sql import SqlConfigurationReader, SqlConfigurationWriter
from services.assignment.application.backend import Backend
from services.assignment.application.snapshots import Snapshots
from shared.clock import Clock
from shared.ids import RandomIds
from shared.mutations import Mutations
from shared.security.audit import AuditKeys
from shared.state.database import Database
from shared.testing.fakes import FixedClock

START = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)


def backend_on(database: Database, keys: AuditKeys, clock: Clock) -> Backend:
    """What a service would work on."""
    reader = SqlConfigurationReader(database)
    return Backend(
        reader=reader,
        writer=SqlConfigurationWriter(Mutations(database, keys, clock)),
        snapshots=Snapshots(reader, clock),
        clock=clock,
        ids=RandomIds(),
        cool_down=dt.timedelta(days=7),
    )


def main(url: str, audit_key: str) -> None:
    """Looks whenever it is told to."""
    clock = FixedClock(START)
    keys = AuditKeys((bytes.fromhex(audit_key),))
    keeper = ScheduleKeeper(backend_on(Database.open(url), keys, clock), 1.0)
    print("ready", flush=True)
    for line in sys.stdin:
        clock.advance(START + dt.timedelta(hours=int(line)) - clock.now())
        print(asyncio.run(keeper.keep_once()), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
