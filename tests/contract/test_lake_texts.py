"""Texts of queries are shared by those who ask the same, and by nobody else."""

import datetime as dt
import gc
import weakref
from pathlib import Path

import ibis
import pyarrow as pa
from ibis import ir

from services.results.domain.measure import Measure, MetricKind
from services.results.domain.observation import Observation, Question
from shared.lake.texts import Texts, answer_of, text_of
from tests.contract.results_log import PLAN, Log, conversion, exposure

SPEND = Measure(MetricKind.MEAN, "purchase", dt.timedelta(days=1))


def table(name: str = "rows") -> ir.Table:
    engine = ibis.duckdb.connect()
    engine.raw_sql(f"CREATE TABLE {name} AS SELECT range AS number, 'x' AS word FROM range(5)")
    return engine.table(name)


def spent(seen: Observation) -> list[float]:
    found: list[float] = seen.sums[0].totals[0, :, 0].tolist()
    return found


def test_projects_that_ask_the_same_get_their_own(tmp_path: Path) -> None:
    log = Log(tmp_path / "lake")
    for project, value in (("bank-one", 10.0), ("bank-two", 200.0)):
        log.add("exposures", [exposure(u, u, project=project) for u in ("a", "b")])
        log.add("conversions", [conversion("b", "purchase", 5, value, project=project)])

    def ask(project: str) -> list[float]:
        return spent(log.source.observe(Question(project, PLAN, (SPEND,))))

    found = [ask(project) for project in ("bank-one", "bank-two", "bank-one", "nobody")]
    assert found == [[0.0, 10.0], [0.0, 200.0], [0.0, 10.0], [0.0, 0.0]]


def test_a_text_names_no_project(tmp_path: Path) -> None:
    log = Log(tmp_path / "lake")
    texts, found = Texts(1_000_000), {}
    for project in ("bank-one", "bank-two"):
        log.add("exposures", [exposure("a", "a", project=project)])
    for project in ("bank-one", "bank-two"):
        with log.source.tables.snapshot(project).read() as tables:
            rows = tables["exposures"].select("project", "unit_id")
            found[project] = answer_of(rows).to_pylist()
            assert project not in (text_of(rows, texts) or project)
    assert len(texts) == 1
    assert found == {p: [{"project": p, "unit_id": "a"}] for p in ("bank-one", "bank-two")}


def test_what_differs_in_anything_has_a_text_of_its_own() -> None:
    rows = table()
    number = rows.number
    different = [
        rows,
        table("others"),
        rows.filter(number > 1),
        rows.filter(number > 2),
        rows.filter(number >= 1),
        rows.filter(rows.word == "bank-one"),
        rows.filter(rows.word == "bank-two"),
        rows.select(x=ibis.literal(1)),
        rows.select(x=ibis.literal(1.0)),
        rows.select(x=ibis.literal(value=True)),
        rows.select(x=ibis.literal(0.0)),
        rows.select(x=ibis.literal(-0.0)),
        rows.select(y=ibis.literal(1)),
        rows.select(x=number.sum().over(ibis.window(order_by=rows.word))),
        rows.select(x=number.sum().over(ibis.window(group_by=rows.word))),
        rows.join(table("others"), "number"),
        rows.left_join(table("others"), "number"),
    ]
    texts = Texts(1_000_000)
    for one in different:
        assert text_of(one, texts) == str(one.get_backend().compile(one))
    assert len(texts) == len(different)


def test_the_same_of_two_connections_has_one_text_and_keeps_neither() -> None:
    texts = Texts(1_000_000)
    one, other = (rows.filter(rows.number > 1) for rows in (table(), table()))
    assert text_of(one, texts) is text_of(other, texts)
    gone = weakref.ref(one.get_backend())
    del one
    gc.collect()
    assert gone() is None
    assert answer_of(other.aggregate(n=other.number.sum())).to_pylist() == [{"n": 9}]


def test_columns_of_another_type_have_another_text() -> None:
    one, other = table(), table()
    other.get_backend().raw_sql("ALTER TABLE rows ALTER number TYPE DOUBLE")
    other = other.get_backend().table("rows")
    texts = Texts(1_000_000)
    for rows in (one, other):
        text_of(rows.select("number"), texts)
    assert len(texts) == 2


def test_rows_of_its_own_are_not_kept() -> None:
    rows = table()
    mine = ibis.memtable(pa.table({"number": [1, 3]}))
    both = rows.join(mine, "number").select("number")
    assert text_of(both) is None
    assert sorted(row["number"] for row in answer_of(both).to_pylist()) == [1, 3]


def test_texts_keep_to_their_room_and_those_used_last_stay() -> None:
    texts, written = Texts(20), []

    def ask(name: str) -> None:
        def write() -> str:
            written.append(name)
            return name * 10

        texts.of(name.encode(), write)

    for name in ("a", "b", "a", "c", "a", "b"):
        ask(name)
    assert written == ["a", "b", "c", "b"]
    assert len(texts) == 2
