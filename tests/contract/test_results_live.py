"""A state that is kept up to date answers as the event tables do, to the last bit."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import ibis
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.results.adapters.lake import LakeMoments
from services.results.adapters.live import LiveMoments
from services.results.adapters.live.moments import MOST_PLANS
from services.results.adapters.live.shelf import Shelf, ShelfLimits
from services.results.domain.measure import Measure
from services.results.domain.observation import MultipleExposures, Question
from shared.identity.few import Few
from shared.identity.reader import IdentityReader
from shared.lake.removal_upkeep import RemovalUpkeep
from shared.lake.snapshot import EngineLimits, LakeEventTables, Snapshot
from shared.lake.watermark import Watermark
from tests.contract.results_log import PLAN, Log, Row, conversion, exposure
from tests.contract.test_results_kinds import MEASURES, random_world
from tests.contract.test_results_moments import link

MEGABYTE = 1_000_000
DIMENSIONS = ("source", "properties.platform")
KINDS = (
    *("sum", "delay", "last", "capped at a percentile", "ratio", "complete", "funnel"),
    *("next day", "time"),
)
SOME = tuple(MEASURES[name] for name in KINDS)

PLANS: Few[str, dict[str, str]] = Few(MOST_PLANS)
"""To write queries takes longer than to run them: one world after the other uses the same."""


@dataclass
class Counting:
    """EventTables that count how often all rows are asked for, and how often only new ones."""

    tables: LakeEventTables
    all_rows: int = 0
    new_rows: int = 0

    async def wait_until(self, at_least: str, timeout_s: float) -> None:
        await self.tables.wait_until(at_least, timeout_s)

    def snapshot(self, project: str) -> Snapshot:
        return CountingSnapshot(self.tables.snapshot(project), self)


@dataclass
class CountingSnapshot:
    snapshot: Snapshot
    counting: Counting

    @property
    def watermark(self) -> Watermark:
        return self.snapshot.watermark

    def rows(self, name: str) -> int:
        return self.snapshot.rows(name)

    def rows_after(self, name: str, position: int) -> str:
        self.counting.new_rows += name == "exposures"
        return self.snapshot.rows_after(name, position)

    @contextmanager
    def read(self) -> Iterator[Mapping[str, ibis.Table]]:
        self.counting.all_rows += 1
        with self.snapshot.read() as tables:
            yield tables


class Live:
    """A log, and two readers of it: one that keeps states and one that does not."""

    def __init__(self, folder: Path, most_bytes: int = 500 * MEGABYTE) -> None:
        self.log = Log(folder / "lake")
        self.tables = Counting(LakeEventTables(folder / "lake"))
        limits = ShelfLimits(most_bytes, engine=EngineLimits(threads=2, memory_limit_mb=512))
        self.shelf = Shelf(folder / "states", folder / "lake", limits)
        self.folder = folder
        lake = LakeMoments(self.tables, IdentityReader(self.log.policies))
        self.live = LiveMoments(lake, self.shelf, PLANS)

    def check(self, question: Question) -> None:
        assert self.live.observe(question) == self.log.source.observe(question)

    def files(self) -> list[Path]:
        return sorted((self.folder / "states").glob("*.duckdb"))


def question(measures: Sequence[Measure] = SOME, **more: object) -> Question:
    return replace(Question("demo", PLAN, tuple(measures)), **more)  # type: ignore[arg-type]


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Live]:
    made = Live(tmp_path)
    yield made
    made.shelf.close()


def add(log: Log, rows: Sequence[tuple[str, Row]]) -> None:
    for table in ("exposures", "conversions", "identifies"):
        of_table = [row for name, row in rows if name == table]
        if of_table:
            log.add(table, of_table)


@pytest.mark.parametrize("policy", MultipleExposures)
def test_every_refresh_is_what_a_rebuild_gives(live: Live, policy: MultipleExposures) -> None:
    exposures, conversions = random_world(21, units=40, events=300)
    both = [("exposures", row) for row in exposures] + [("conversions", r) for r in conversions]
    # The first exposure and the largest value of every source come first, so that nothing has to be
    # rebuilt.
    add(live.log, [("exposures", exposure("u0", "a", -1))])
    largest = conversion("u0", "buy", 0, 1e4, currency="EUR", properties='{"platform": "web"}')
    add(live.log, [("conversions", largest)])
    order = np.random.default_rng(22).permutation(len(both))
    asked = question(dimensions=DIMENSIONS, multiple_exposures=policy)
    live.check(asked)
    for part in np.array_split(order, 4):
        add(live.log, [both[i] for i in part])
        live.check(asked)
    assert live.tables.all_rows == 1
    assert live.tables.new_rows == 4


kinds = st.sampled_from(["proportion", "sum", "ratio", "funnel", "next day", "time", "complete"])
minutes = st.integers(-600, 900).map(lambda tens: 10 * tens)
units = st.integers(0, 6).map(lambda n: f"u{n}")
rows = st.one_of(
    st.builds(
        lambda unit, arm, at, source, forced: (
            "exposures",
            exposure(unit, arm, at, source=source, reason="FORCED" if forced else None),
        ),
        units,
        st.sampled_from("abc"),
        minutes,
        st.sampled_from(["x", "y", None]),
        st.sampled_from([False] * 9 + [True]),
    ),
    st.builds(
        lambda unit, name, at, value: ("conversions", conversion(unit, name, at, value)),
        units,
        st.sampled_from(["view", "click", "buy"]),
        minutes,
        st.sampled_from([None, 0.1, 7.0, -2.5, 1e9]),
    ),
    st.builds(lambda unit, at: ("identifies", link("d1", unit, at)), units, minutes),
)


@settings(max_examples=8, deadline=None)
@given(
    st.lists(st.lists(rows, min_size=1, max_size=12), min_size=2, max_size=5),
    st.lists(kinds, min_size=1, max_size=4, unique=True),
    st.booleans(),
)
def test_whatever_comes_a_state_follows(
    tmp_path_factory: pytest.TempPathFactory,
    batches: list[list[tuple[str, Row]]],
    names: list[str],
    by_source: bool,
) -> None:
    live = Live(tmp_path_factory.mktemp("live"))
    dimensions = ("source",) if by_source else ()
    asked = question([MEASURES[name] for name in names], dimensions=dimensions)
    for batch in batches:
        add(live.log, batch)
        live.check(asked)
    live.shelf.close()


def test_a_unit_seen_in_a_second_variant_leaves_all_its_numbers(live: Live) -> None:
    asked = question()
    add(live.log, [("exposures", exposure(f"u{n}", "ab"[n % 2], n)) for n in range(6)])
    add(live.log, [("conversions", conversion(f"u{n % 6}", "buy", 5 + n, n)) for n in range(20)])
    live.check(asked)
    add(live.log, [("exposures", exposure("u3", "a", 700))])
    live.check(asked)
    add(live.log, [("exposures", exposure("u2", "a", 1, reason="forced"))])
    live.check(asked)
    assert live.live.observe(asked).multiply_exposed == (0, 1)
    assert live.tables.all_rows == 1


def test_an_earlier_first_exposure_begins_anew(live: Live) -> None:
    asked = question()
    add(live.log, [("exposures", exposure("u1", "a", 5))])
    add(live.log, [("conversions", conversion("u1", "buy", n, 2.0)) for n in (0, 3, 6)])
    live.check(asked)
    add(live.log, [("exposures", exposure("u1", "a", 2))])
    live.check(asked)
    assert live.tables.all_rows == 2


def test_new_links_begin_anew(live: Live) -> None:
    asked = question()
    add(live.log, [("exposures", exposure("u1", "a"))])
    add(live.log, [("conversions", conversion("d1", "buy", 5, 2.0) | {"unit_type": "device"})])
    live.check(asked)
    add(live.log, [("identifies", link("d1", "u1"))])
    live.check(asked)
    add(live.log, [("conversions", conversion("d1", "buy", 6, 3.0) | {"unit_type": "device"})])
    live.check(asked)
    assert live.tables.new_rows == 1


def test_compaction_changes_nothing_and_reads_nothing_again(live: Live) -> None:
    asked = question()
    add(live.log, [("conversions", conversion("u1", "buy", 50, 1.0))])
    for n in range(40):
        add(live.log, [("exposures", exposure(f"u{n}", "ab"[n % 2], n))])
    live.check(asked)
    live.log.writer.tidy(5.0)
    live.check(asked)
    add(live.log, [("conversions", conversion("u1", "buy", 50, 1.0))])
    live.log.writer.tidy(5.0)
    live.check(asked)
    assert live.tables.all_rows == 1


def test_what_is_erased_leaves_the_states_too(live: Live) -> None:
    asked = question()
    add(live.log, [("exposures", exposure(f"u{n}", "ab"[n % 2], n)) for n in range(6)])
    live.check(asked)
    live.log.writer.change("exposures", lambda table: table.handle.delete("unit_id = 'u3'"))
    live.log.writer.reopen()
    live.log.writer.change("exposures", lambda table: table.reopen())
    add(live.log, [("exposures", exposure("u9", "a", 9))])
    live.check(asked)
    assert live.tables.all_rows == 2
    assert len(live.files()) == 1
    (live.folder / "lake" / "_erasures.json").write_text('{"erasures": ["e1"]}')
    live.shelf.forget_removed()
    assert live.files() == []
    live.check(asked)
    assert live.tables.all_rows == 3


def test_a_state_of_what_was_there_before_an_erasure_goes_when_it_is_made_after(live: Live) -> None:
    name = live.shelf.named("state")
    (live.folder / "lake" / "_erasures.json").write_text('{"erasures": ["e1"]}')
    live.shelf.forget_removed()
    with live.shelf.use(name):
        assert len(live.files()) == 1
    live.shelf.forget_removed()
    assert live.files() == []


async def test_what_is_erased_leaves_the_states_while_nobody_asks(live: Live) -> None:
    add(live.log, [("exposures", exposure("u1", "a"))])
    live.check(question([MEASURES["sum"]]))
    upkeep = RemovalUpkeep(live.shelf, "states of results", every_s=0.01)
    await upkeep.start()
    (live.folder / "lake" / "_erasures.json").write_text('{"erasures": ["e2"]}')
    while live.files():  # noqa: ASYNC110  files tell nobody when they go
        await asyncio.sleep(0.01)
    await upkeep.stop()


def test_states_keep_to_their_room_and_those_used_last_stay(tmp_path: Path) -> None:
    live = Live(tmp_path, most_bytes=1)
    add(live.log, [("exposures", exposure("u1", "a"))])
    for name in ("proportion", "sum", "count"):
        live.check(question([MEASURES[name]]))
        assert live.files() == []
    live.shelf.close()
    roomy = Live(tmp_path / "roomy")
    add(roomy.log, [("exposures", exposure("u1", "a"))])
    for name in ("proportion", "sum", "proportion", "count"):
        roomy.check(question([MEASURES[name]]))
    assert len(roomy.files()) == 3
    assert roomy.tables.all_rows == 3
    roomy.shelf.close()


def test_a_damaged_state_is_made_anew(live: Live) -> None:
    asked = question([MEASURES["sum"]])
    add(live.log, [("exposures", exposure("u1", "a"))])
    live.check(asked)
    live.shelf.close()
    (file,) = live.files()
    file.write_bytes(b"nonsense" * 1000)
    live.check(asked)
    assert live.files() == []
    live.check(asked)
    assert len(live.files()) == 1


def test_a_state_outlives_the_process(live: Live) -> None:
    asked = question()
    add(live.log, [("exposures", exposure("u1", "a"))])
    live.check(asked)
    live.shelf.close()
    add(live.log, [("conversions", conversion("u1", "buy", 6, 3.0))])
    add(live.log, [("conversions", conversion("u1", "buy", 6, 2.0))])
    live.check(asked)
    assert (live.tables.all_rows, live.tables.new_rows) == (2, 1)


def test_past_cuts_days_and_quantiles_are_asked_of_the_tables(live: Live) -> None:
    from tests.contract.test_results_quantiles import MEASURES as QUANTILES

    measures = [MEASURES["sum"], *QUANTILES.values(), MEASURES["funnel"]]
    asked = question(measures, dimensions=("source",))
    add(live.log, [("exposures", exposure(f"u{n}", "ab"[n % 2], n)) for n in range(6)])
    first = live.live.observe(asked).cut.token
    add(live.log, [("conversions", conversion("u1", "load", 6, 3.0))])
    live.check(asked)
    live.check(replace(asked, as_of=first))
    assert live.live.observe_by_day(asked) == live.log.source.observe_by_day(asked)
