"""Events of a small world, and keys, for the tests of the attribution service."""

import datetime as dt
from pathlib import Path

from google.protobuf.timestamp_pb2 import Timestamp

from shared.ids import RandomIds
from shared.lake.rows import table_of
from shared.lake.writer import LakeWriter
from shared.security.caller import Role
from shared.security.keys import SqlKeyStore, make_key
from shared.server.run import Application
from shared.testing.fakes import FixedClock

NOW = dt.datetime(2026, 2, 1, tzinfo=dt.UTC)


def moment(day: float) -> dt.datetime:
    return dt.datetime(2026, 1, 1, tzinfo=dt.UTC) + dt.timedelta(days=day)


def timestamp(day: float) -> Timestamp:
    result = Timestamp()
    result.FromDatetime(moment(day))
    return result


def write_events(lake: Path) -> str:
    def touch(event_id: str, unit: str, day: float, channel: str) -> dict[str, object]:
        return {
            "event_id": event_id,
            "project": "demo",
            "event_time": moment(day),
            "unit_id": unit,
            "channel": channel,
            "cost": 1.0 if channel == "ads" else None,
        }

    def bought(event_id: str, unit: str, day: float, value: float) -> dict[str, object]:
        return {
            "event_id": event_id,
            "project": "demo",
            "event_time": moment(day),
            "unit_id": unit,
            "event_name": "buy",
            "value": value,
        }

    touches = [
        touch("t1", "ann", 1, "ads"),
        touch("t2", "ann", 2, "mail"),
        touch("t3", "bob", 1, "ads"),
    ]
    tables = {
        "touchpoints": table_of("touchpoints", touches),
        "conversions": table_of(
            "conversions", [bought("c1", "ann", 3, 10.0), bought("c2", "dan", 3, 4.0)]
        ),
    }
    return LakeWriter(lake, "journal-a", FixedClock(NOW)).append(tables, 1).token()


def key_of(application: Application, project: str, *roles: Role) -> str:
    platform = application.platform
    new = make_key(RandomIds(), project, "test", frozenset(roles), platform.clock.now())
    with platform.database.begin() as connection:
        store = SqlKeyStore(connection)
        if not store.has_project(project):
            store.add_project(project, platform.clock.now())
        store.add(new.key)
    return new.text
