"""What is kept from one report to the next changes nothing of what reports say."""

import asyncio
import datetime as dt
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from touchstone.attribution.v1 import attribution_pb2, report_pb2
from touchstone.attribution.v1 import report_service_pb2 as pb

from services.attribution.adapters.journey_rows import EventRows
from services.attribution.adapters.kept import KeptJourneyLog
from services.attribution.adapters.kept.files import KeptFiles
from services.attribution.adapters.kept.stand import Stand
from services.attribution.adapters.lake import LakeJourneyLog
from services.attribution.application.get_attribution import Progress
from services.attribution.application.reports import run_report
from services.attribution.domain.grouping import ChannelGrouping, ChannelRule
from services.attribution.limits import AttributionLimits
from services.attribution.ports import (
    Association,
    EventQuery,
    HowRead,
    JourneyEvents,
    JourneyLog,
    Names,
    TouchField,
    WhyAll,
)
from services.attribution.wire.reports import decode_run, stored_report
from shared.filters.filter import Comparison, Operator
from shared.identity.belonging import Stitching
from shared.identity.policy import IdentityPolicy, IdType, StoredPolicy
from shared.identity.reader import IdentityReader
from shared.lake.removal import MARKER, drop_days, exchange, files_on_disk, thin, write_marker
from shared.lake.removal_upkeep import RemovalUpkeep
from shared.lake.rows import table_of
from shared.lake.snapshot import LakeEventTables
from shared.lake.writer import LakeWriter
from shared.testing.fakes import FixedClock
from shared.testing.policies import FixedPolicies
from tests.contract.attribution_world import NOW, moment, timestamp

Row = dict[str, Any]
DAY_US = 86_400_000_000
POLICY = StoredPolicy(IdentityPolicy((IdType("user", 2), IdType("device", 5))), 1)
ROOMY = 10**9
PLAIN = EventQuery("demo", "buy", "user")
RICH = EventQuery(
    "demo",
    "buy",
    "user",
    stitching=Stitching.POINT_IN_TIME,
    grouping=ChannelGrouping(
        (ChannelRule(filter=Comparison("medium", Operator.EQUAL, ("cpc",)), channel="paid"),), ""
    ),
    conversion_filter=Comparison("value", Operator.GREATER, (0.2,)),
    credited=TouchField.CAMPAIGN,
    faceted=True,
    associations=(Association("item", "item"),),
    milestones=("trial", "lead"),
)


@dataclass
class World:
    """Event tables that grow, and what reads them."""

    folder: Path
    seed: int = 0
    most_bytes: int = ROOMY
    position: int = 0
    number: int = 0
    written: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = np.random.default_rng(self.seed)
        self.writer = LakeWriter(self.lake, "journal-a", FixedClock(NOW))
        tables = LakeEventTables(self.lake)
        self.plain = LakeJourneyLog(tables, IdentityReader(FixedPolicies(POLICY)))
        self.files = KeptFiles(self.folder / "kept", self.lake, self.most_bytes)
        self.kept = KeptJourneyLog(self.plain, self.files)

    @property
    def lake(self) -> Path:
        return self.folder / "lake"

    def drawn(self, name: str, day: float) -> Row:
        """An event of some day, early or late, often at the instant of another."""
        self.number += 1
        pick = self.random.integers
        kind = "device" if pick(5) == 0 else "user"
        row: Row = {
            "event_id": f"{pick(10)}-{self.number}",
            "project": "demo",
            "event_time": moment(max(0.0, day - float(pick(0, 12)) / 4)),
            "unit_type": kind,
            "unit_id": f"{kind}-é{pick(12)}",
            "properties": {"item": str(pick(2))} if pick(4) else None,
            "content_digest": int(pick(-(2**60), 2**60)),
        }
        if kind == "device" and pick(2):
            row["linked_units"] = [{"type": "user", "id": f"user-é{pick(12)}"}]
        money = {"currency": ("EUR", "USD", None)[pick(3)]}
        if name == "touchpoints":
            cost = float(self.random.random()) if pick(3) else None
            texts = {"medium": ("cpc", "", None)[pick(3)], "campaign": f"c{pick(4)}"}
            did = {"interaction": ("click", "view", None)[pick(3)]}
            return row | money | texts | did | {"channel": f"channel-{pick(5)}", "cost": cost}
        value = float(self.random.random()) if pick(4) else None
        what = ("buy", "buy", "trial", "lead")[pick(4)]
        return row | money | {"event_name": what, "value": value}

    def grow(self, day: float, events: int, *, link: bool = False) -> None:
        """Write events of about a day in several flushes."""
        rows = [
            (name, self.drawn(name, day))
            for name in ("touchpoints", "conversions")
            for _ in range(events if name == "touchpoints" else events // 3)
        ]
        flushes = int(self.random.integers(1, 4))
        for flush in range(flushes):
            self.position += 1
            part = [rows[place] for place in range(flush, len(rows), flushes)]
            tables = {
                name: table_of(
                    name, [r | {"position": self.position} for of, r in part if of == name]
                )
                for name in ("touchpoints", "conversions")
            }
            if link and not flush:
                tables["identifies"] = self._link(day)
            self.writer.append({n: t for n, t in tables.items() if t.num_rows}, self.position)
        self.written += [(name, row["event_id"]) for name, row in rows]

    def _link(self, day: float) -> Any:
        self.number += 1
        first, second = self.random.integers(0, 12, 2).tolist()
        link = {
            "event_id": f"link-{self.number}",
            "project": "demo",
            "event_time": moment(day),
            "unit_type": "device",
            "unit_id": f"device-é{first}",
            "other_unit_type": "user",
            "other_unit_id": f"user-é{second}",
            "position": self.position,
            "content_digest": self.number,
        }
        return table_of("identifies", [link])

    def erase(self, share: float) -> None:
        """Remove some events of every file, as an erasure does."""
        gone = {event for _, event in self.written if self.random.random() < share}
        for name in ("touchpoints", "conversions"):
            self._thin(name, gone)

    def _thin(self, name: str, gone: set[str]) -> None:
        folder = self.lake / name
        paths = [str(path.relative_to(folder)) for path in files_on_disk(folder, "demo")]
        done = [thin(folder, path, gone) for path in paths]
        changed = [each for each in done if each.removed_rows]
        self.writer.change(name, lambda table: exchange(table, changed, NOW))


def told(names: Names, count: int) -> list[str]:
    return names.at(np.arange(count))


def require_same(one: JourneyEvents, other: JourneyEvents) -> None:
    """The same to the last bit, but for how they were read."""
    for part in ("touches", "conversions", "milestones"):
        mine, theirs = getattr(one, part), getattr(other, part)
        for each in fields(mine):
            left, right = getattr(mine, each.name), getattr(theirs, each.name)
            if isinstance(left, np.ndarray):
                assert left.dtype == right.dtype
                np.testing.assert_array_equal(left, right, err_msg=f"{part}.{each.name}")
            elif each.name == "facets" and left is not None:
                assert (left.channels, left.interactions) == (right.channels, right.interactions)
                np.testing.assert_array_equal(left.channel_codes, right.channel_codes)
                np.testing.assert_array_equal(left.interaction_codes, right.interaction_codes)
            else:
                assert left == right, f"{part}.{each.name}"
    units = int(max([-1, *one.touches.units.tolist(), *one.conversions.units.tolist()])) + 1
    assert told(one.units, units) == told(other.units, units)
    assert one.currencies == other.currencies
    assert (one.watermark, one.watermark_time) == (other.watermark, other.watermark_time)
    assert one.identity_version == other.identity_version


def how(world: World, query: EventQuery) -> HowRead:
    """How the query is read now; what it gives is that of the event tables."""
    found = world.kept.read(query)
    require_same(found, world.plain.read(query))
    assert found.how is not None
    return found.how


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("query", [PLAIN, RICH], ids=["plain", "rich"])
def test_events_are_those_of_the_tables_however_they_came(
    tmp_path: Path, seed: int, query: EventQuery
) -> None:
    world = World(tmp_path, seed)
    reasons = set()
    for step in range(7):
        world.grow(5.0 + step, int(world.random.integers(1, 40)), link=step == 3)
        if step == 5:
            world.erase(0.1)
        if step == 2:
            world.writer.tidy(30)
        moving = {
            0: query,
            1: replace(query, from_us=us(2.0 + step), until_us=us(6.0 + step)),
            2: replace(query, until_us=us(7.0 + step / 2)),
        }[seed % 3]
        reasons.add(how(world, moving).why_all)

    assert reasons == {
        None,
        WhyAll.NOTHING_KEPT,
        WhyAll.IDENTITIES_CHANGED,
        WhyAll.EVENTS_REMOVED,
    }


def us(day: float) -> int:
    return int(
        (moment(day) - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) / dt.timedelta(microseconds=1)
    )


def test_only_new_events_are_read(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.grow(5, 60)
    first = how(world, PLAIN)
    world.grow(6, 9)
    second, third = how(world, PLAIN), how(world, PLAIN)

    assert (first.why_all, first.kept, first.since) == (WhyAll.NOTHING_KEPT, 0, "")
    assert (second.why_all, second.kept) == (None, first.new)
    assert 0 < second.new <= 12
    assert (third.kept, third.new) == (second.kept + second.new, 0)


def test_what_is_read_whole_says_why(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.grow(5, 30)
    watermark = world.plain.read(PLAIN).watermark
    bounded = replace(PLAIN, from_us=us(4), until_us=us(5))
    assert how(world, bounded).why_all is WhyAll.NOTHING_KEPT
    assert how(world, replace(bounded, from_us=us(3))).why_all is WhyAll.EARLIER_START
    assert how(world, replace(bounded, until_us=us(8))).why_all is None
    assert how(world, replace(bounded, event_name="trial")).why_all is WhyAll.NOTHING_KEPT
    assert how(world, replace(PLAIN, grouping=RICH.grouping)).why_all is WhyAll.NOTHING_KEPT
    world.grow(6, 6)
    past = world.kept.read(replace(PLAIN, as_of=watermark))
    assert past.how == HowRead(WhyAll.PAST_CUT, "", 0, 0)
    world.grow(6, 3, link=True)
    assert how(world, bounded).why_all is WhyAll.IDENTITIES_CHANGED


def test_one_event_that_is_gone_and_another_that_came_are_noticed(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.grow(5, 20)
    how(world, PLAIN)
    gone = {event for name, event in world.written if name == "touchpoints"}
    world._thin("touchpoints", {min(gone)})
    world.grow(5, 1)

    assert how(world, PLAIN).why_all is WhyAll.EVENTS_REMOVED


def test_what_is_erased_leaves_the_files(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.grow(5, 20)
    how(world, PLAIN)
    assert [*(tmp_path / "kept").glob("*.*")]
    write_marker(world.lake / MARKER, ["an-erasure"])
    world.files.forget_removed()

    assert not [*(tmp_path / "kept").glob("*.*")]
    assert how(world, PLAIN).why_all is WhyAll.NOTHING_KEPT


def test_what_is_erased_while_it_is_read_is_not_kept(tmp_path: Path) -> None:
    """A report reads the tables, then something is erased and forgotten, then the report keeps."""
    world = World(tmp_path)
    world.grow(5, 20)

    class Slow(KeptFiles):
        def save(self, name: str, stand: Stand, rows: EventRows) -> None:
            write_marker(world.lake / MARKER, ["an-erasure"])
            self.forget_removed()
            super().save(name, stand, rows)

    slow = Slow(tmp_path / "kept", world.lake, ROOMY)
    KeptJourneyLog(world.plain, slow).read(PLAIN)
    assert [*(tmp_path / "kept").glob("*.*")]
    world.files.forget_removed()
    assert not [*(tmp_path / "kept").glob("*.*")]


def test_an_erasure_that_finds_more_later_is_another(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.grow(5, 20)
    write_marker(world.lake / MARKER, ["an-erasure"])
    how(world, PLAIN)
    write_marker(world.lake / MARKER, ["an-erasure"])
    world.files.forget_removed()
    assert not [*(tmp_path / "kept").glob("*.*")]


def test_days_that_are_removed_leave_the_files(tmp_path: Path) -> None:
    """Also of a question that nobody asks again; one that begins later keeps its rows."""
    world = World(tmp_path)
    world.grow(9, 60)
    how(world, PLAIN)
    world.files.forget_removed()
    assert how(world, PLAIN).why_all is None
    later = replace(PLAIN, event_name="lead", from_us=us(8))
    how(world, later)
    assert len([*(tmp_path / "kept").glob("*.arrow")]) == 2
    for name in ("touchpoints", "conversions"):
        world.writer.change(name, lambda table: drop_days(table, "demo", moment(8).date(), NOW))
    world.grow(9, 3)

    world.files.forget_removed()
    assert how(world, later).why_all is None
    assert len([*(tmp_path / "kept").glob("*.arrow")]) == 1


@pytest.mark.parametrize("kind", ["*.arrow", "*.base"])
def test_damaged_files_are_read_anew(tmp_path: Path, kind: str) -> None:
    world = World(tmp_path)
    world.grow(5, 20)
    how(world, PLAIN)
    for damage in (b"", b"nothing of ours", None):
        (path,) = (tmp_path / "kept").glob(kind)
        path.write_bytes(path.read_bytes()[:700] if damage is None else damage)
        assert how(world, PLAIN).why_all is WhyAll.NOTHING_KEPT
        assert how(world, PLAIN).why_all is None


def test_no_more_is_kept_than_there_is_room_for(tmp_path: Path) -> None:
    def used(folder: Path) -> list[int]:
        return [each.stat().st_size for each in (folder / "kept").glob("*.*")]

    world = World(tmp_path)
    world.grow(5, 50)
    how(world, PLAIN)
    room = sum(used(tmp_path)) * 5 // 2
    small = World(tmp_path / "small", most_bytes=room)
    small.grow(5, 50)
    names = ("buy", "trial", "lead")
    for name in names:
        how(small, replace(PLAIN, event_name=name))

    assert 0 < len(used(small.folder)) < 2 * len(names)
    assert sum(used(small.folder)) <= room
    none = World(tmp_path / "none", most_bytes=10)
    none.grow(5, 50)
    assert {how(none, PLAIN).why_all for _ in range(2)} == {WhyAll.NOTHING_KEPT}


def test_rows_that_are_kept_are_written_anew_after_many_new_ones(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.grow(5, 300)
    how(world, PLAIN)
    (base,) = (tmp_path / "kept").glob("*.base")
    world.grow(6, 6)
    assert how(world, PLAIN).why_all is None
    assert [*(tmp_path / "kept").glob("*.base")] == [base]
    world.grow(7, 60)
    assert how(world, PLAIN).why_all is None
    (other,) = (tmp_path / "kept").glob("*.base")

    assert other != base
    assert how(world, PLAIN).new == 0


async def test_what_is_erased_leaves_the_files_while_no_report_is_run(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.grow(5, 20)
    how(world, PLAIN)
    upkeep = RemovalUpkeep(world.files, "kept events", every_s=0.01)
    await upkeep.start()
    write_marker(world.lake / MARKER, ["an-erasure"])
    left = True
    for _ in range(500):
        await asyncio.sleep(0.01)
        left = bool([*(tmp_path / "kept").glob("*.*")])
        if not left:
            break
    await upkeep.stop()

    assert not left


def asked(until: float) -> pb.RunAttributionRequest:
    models = [
        attribution_pb2.Model(linear=attribution_pb2.Linear()),
        attribution_pb2.Model(time_decay=attribution_pb2.TimeDecay()),
        attribution_pb2.Model(markov=attribution_pb2.Markov(automatic_order=True)),
        attribution_pb2.Model(shapley=attribution_pb2.Shapley()),
        attribution_pb2.Model(probabilistic=attribution_pb2.Probabilistic()),
    ]
    journeys = attribution_pb2.JourneyDefinition(event_name="buy", end_time=timestamp(until))
    request = pb.RunAttributionRequest(
        parent="projects/demo", journeys=journeys, models=models, min_units=2
    )
    request.bootstrap.replicates = 20
    return request


def report_of(log: JourneyLog, until: float) -> tuple[bytes, report_pb2.AttributionReport]:
    command = decode_run(asked(until), "demo")
    found = run_report(command, log, AttributionLimits(), Progress())
    kept = stored_report("daily", NOW, command, found)
    return kept.paths, report_pb2.AttributionReport.FromString(kept.document)


@pytest.mark.parametrize("seed", range(3))
def test_reports_say_the_same_whatever_was_kept(tmp_path: Path, seed: int) -> None:
    world = World(tmp_path, seed)
    for step in range(5):
        world.grow(5.0 + step, 30)
        until = 5.5 + step
        (paths, report), (others, other) = (
            report_of(log, until) for log in (world.kept, world.plain)
        )
        assert report.digest == other.digest
        assert paths == others
        assert report.results[0].replicates.replicates == 20
        assert not other.HasField("reading")
        assert report.reading.read_events > 0
        why = report.reading.whole_reading_reason
        assert why == (0 if step else report_pb2.WHOLE_READING_REASON_NOTHING_KEPT)
