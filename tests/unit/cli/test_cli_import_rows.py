"""Rows of files become events, or rejections with a reason."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from touchstone.events.v1.event_pb2 import Event

from services.cli.importing import cells
from services.cli.importing.cells import RowError
from services.cli.importing.experiment_rows import (
    ExperimentMapping,
    ExperimentRows,
    MetricColumn,
)
from services.cli.importing.journey_rows import JourneyMapping, JourneyRows
from services.cli.importing.names import distinct_keys, event_id, event_name, variant_key
from services.cli.importing.sources import CsvSource, SourceRow, open_source, require_column
from services.cli.importing.survey import survey
from services.cli.splits import WHOLE, parse_weight, relative_weights, with_equal_weights
from shared.errors import DomainError

DAY_US = 86_400_000_000


def csv_file(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    path = folder / "file.csv"
    path.write_bytes(text.encode(encoding))
    return path


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("Mens E-Mail", "mens-e-mail"),
        ("No E-Mail", "no-e-mail"),
        ("  B!  ", "b"),
        ("v1.2_x", "v1.2_x"),
        ("Größe", "gr-e"),
        ("日本", "variant"),
    ],
)
def test_variant_keys(name: str, key: str) -> None:
    assert variant_key(name) == key


@given(st.text())
def test_every_name_becomes_one_that_the_contract_takes(name: str) -> None:
    import re

    assert re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,62}", variant_key(name))
    # An event name that is a metric id as well.
    assert re.fullmatch(r"[a-z][a-z0-9_-]{0,62}", event_name(name))


def test_names_that_become_one_key_are_refused() -> None:
    assert distinct_keys(["A", "B"]) == {"A": "a", "B": "b"}
    with pytest.raises(DomainError, match="'a b' is there"):
        distinct_keys(["a b", "a-b"])


def test_event_ids_are_the_same_each_time_and_differ_by_row_and_role() -> None:
    ids = {event_id("d", row, role) for row in (1, 2) for role in ("x", "y", "r" * 200, "s" * 200)}
    assert len(ids) == 8
    assert all(len(one.encode()) <= 128 for one in ids)
    assert event_id("d", 1, "x") == "d:1:x"


@pytest.mark.parametrize("text", ["nan", "inf", "-Infinity", "1_000", "", "1,5", "0x10", "1e999"])
def test_what_is_no_finite_number(text: str) -> None:
    with pytest.raises(RowError, match="finite number"):
        cells.number(text, "spend")


@pytest.mark.parametrize(
    ("text", "value"), [(" 1.5 ", 1.5), ("-2", -2), ("1e3", 1000), (".5", 0.5)]
)
def test_numbers(text: str, value: float) -> None:
    assert cells.number(text, "spend") == value


@pytest.mark.parametrize(
    ("cell", "value"), [("1", True), ("0.0", False), ("TRUE", True), (False, False), (1.0, True)]
)
def test_flags(cell: object, value: bool) -> None:
    assert cells.flag(cell, "visit") is value


def test_flag_names_the_value_that_is_none() -> None:
    with pytest.raises(RowError, match="'maybe'; allowed: 0, 1"):
        cells.flag("maybe", "visit")


@pytest.mark.parametrize(
    ("cell", "iso"),
    [
        ("2018-07-22T20:40:41Z", "2018-07-22T20:40:41+00:00"),
        ("2018-07-22 20:40:41.5", "2018-07-22T20:40:41.500000+00:00"),
        ("2018-07-22T22:40:41+02:00", "2018-07-22T20:40:41+00:00"),
        ("2018-07-22", "2018-07-22T00:00:00+00:00"),
        (dt.date(2018, 7, 22), "2018-07-22T00:00:00+00:00"),
        (dt.datetime(1969, 12, 31, 23, 59, 59, 999_999), "1969-12-31T23:59:59.999999+00:00"),  # noqa: DTZ001  as Parquet gives it
    ],
)
def test_times_are_utc(cell: object, iso: str) -> None:
    stamp = cells.stamp(cells.time_us(cell, "time"))
    assert stamp.ToDatetime(dt.UTC).isoformat() == iso


@pytest.mark.parametrize("cell", ["yesterday", "1532292041", "", None, 7])
def test_what_is_no_time(cell: object) -> None:
    with pytest.raises(RowError, match="ISO 8601"):
        cells.time_us(cell, "time")


def test_csv_rows_have_their_lines_and_tolerate_a_byte_order_mark(tmp_path: Path) -> None:
    path = csv_file(tmp_path, '\ufeffa,b\n1,"two\nlines"\n\n3\n5,6\n')
    source = open_source(path)
    assert source.columns == ("a", "b")
    rows = list(source.rows())
    assert [(row.number, row.line) for row in rows] == [(1, 3), (2, 5), (3, 6)]
    assert rows[0].cells == ["1", "two\nlines"]
    assert rows[1].problem == "the row has 1 fields; allowed: 2, as in the header"
    assert list(source.rows()) == rows


def test_row_in_another_encoding_is_a_problem_of_that_row(tmp_path: Path) -> None:
    path = tmp_path / "file.csv"
    path.write_bytes("a,b\nx,ü\n".encode() + "y,ü\n".encode("latin-1") + b"z,1\n")
    assert [bool(row.problem) for row in CsvSource(path).rows()] == [False, True, False]


def test_enormous_cell_is_a_problem_of_its_row(tmp_path: Path) -> None:
    path = csv_file(tmp_path, f"a,b\n1,{'x' * 200_000}\n2,3\n")
    problems = [row.problem for row in CsvSource(path).rows()]
    assert "larger than field limit" in problems[0]
    assert problems[-1] == ""


@pytest.mark.parametrize("text", ["", "a,a\n1,2\n"])
def test_file_without_a_usable_header_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(DomainError, match="FILE"):
        open_source(csv_file(tmp_path, text))


def test_missing_file_and_missing_column_are_named(tmp_path: Path) -> None:
    with pytest.raises(DomainError, match="No such file"):
        open_source(tmp_path / "none.csv")
    with pytest.raises(DomainError, match="one of a, b"):
        require_column(open_source(csv_file(tmp_path, "a,b\n")), "c", "--unit")
    bad = tmp_path / "bad.parquet"
    bad.write_bytes(b"not parquet at all")
    with pytest.raises(DomainError, match="no Parquet file"):
        open_source(bad)


def test_parquet_cells_keep_their_types(tmp_path: Path) -> None:
    path = tmp_path / "file.parquet"
    time = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    pq.write_table(pa.table({"u": [1, 2], "t": [time, None], "v": [1.5, None]}), path)
    source = open_source(path)
    assert source.estimated_rows() == 2
    assert [list(row.cells) for row in source.rows()] == [[1, time, 1.5], [2, None, None]]


def test_survey_finds_arms_flags_and_the_beginning(tmp_path: Path) -> None:
    path = csv_file(
        tmp_path, "arm,bought,spend,at\nB,1,2.5,2026-01-02\nA,0,0,2026-01-01\n,x,1,bad\nA,1,1,\n"
    )
    found = survey(open_source(path), "arm", ["bought", "spend"], "at")
    assert found.variants == ("A", "B")
    assert found.rows == 4
    assert found.flags == {"bought"}
    assert found.earliest_us == cells.time_us("2026-01-01", "at")
    clean = csv_file(tmp_path, "arm,bought,spend\nB,1,2.5\nA,0,0\n")
    assert survey(open_source(clean), "arm", ["bought", "spend"], None).flags == {"bought"}


def test_column_that_cannot_name_arms_is_refused(tmp_path: Path) -> None:
    many = csv_file(tmp_path, "id\n" + "".join(f"u{n}\n" for n in range(500)))
    with pytest.raises(DomainError, match="more than 100"):
        survey(open_source(many), "id", [], None)
    one = csv_file(tmp_path, "id\na\na\n")
    with pytest.raises(DomainError, match="1 different values"):
        survey(open_source(one), "id", [], None)


def experiment_rows(
    folder: Path, text: str, **changes: object
) -> tuple[ExperimentRows, list[SourceRow]]:
    source = open_source(csv_file(folder, text))
    settings: dict[str, object] = {
        "dataset": "mail",
        "experiment": "email",
        "unit": "row",
        "unit_type": "user",
        "variant": "arm",
        "variants": {"No Mail": "no-mail", "Mail": "mail"},
        "metrics": (MetricColumn("visit", "visit", True), MetricColumn("spend", "spend", False)),
        "covariates": (("history", "history"),),
        "attributes": ("zip",),
        "time": None,
        "start_us": 10 * DAY_US,
        "source": "import",
        **changes,
    }
    return ExperimentRows(ExperimentMapping(**settings), source), list(source.rows())  # type: ignore[arg-type]


def kinds(events: list[Event]) -> list[str]:
    return [
        event.conversion.event_name
        if event.HasField("conversion")
        else event.WhichOneof("payload") or ""
        for event in events
    ]


HEADER = "arm,visit,spend,history,zip\n"


def test_row_of_an_experiment_is_exposure_covariate_and_what_happened(tmp_path: Path) -> None:
    rows, source = experiment_rows(tmp_path, HEADER + "Mail,1,2.5,99,Rural\n")
    exposure, history, visit, spend = rows.events(source[0])
    assert exposure.exposure.variant == "mail"
    assert exposure.exposure.experiment == "email"
    assert exposure.unit.id == "mail:1"
    assert exposure.properties["zip"] == "Rural"
    assert exposure.event_time.seconds == 10 * 86_400
    assert history.event_time.seconds == 9 * 86_400
    assert history.conversion.value == 99
    assert visit.event_time.seconds > exposure.event_time.seconds
    assert not visit.conversion.HasField("value")
    assert spend.conversion.value == 2.5
    ids = [event.event_id for event in (exposure, history, visit, spend)]
    assert ids == ["mail:1:exposure:email", "mail:1:history", "mail:1:visit", "mail:1:spend"]
    assert ids == [event.event_id for event in rows.events(source[0])]


def test_nothing_that_happened_is_no_event(tmp_path: Path) -> None:
    rows, source = experiment_rows(tmp_path, HEADER + "No Mail,0,0,,\n")
    events = rows.events(source[0])
    assert kinds(events) == ["exposure"]
    assert not events[0].HasField("properties")


@pytest.mark.parametrize(
    ("line", "column"),
    [
        ("Mail,2,1,1,x", "visit"),
        ("Mail,1,lots,1,x", "spend"),
        ("Mail,1,,1,x", "spend"),
        ("Mail,1,1,nan,x", "history"),
        (",1,1,1,x", "arm"),
        ("Other,1,1,1,x", "arm"),
    ],
)
def test_bad_cell_rejects_the_whole_row(tmp_path: Path, line: str, column: str) -> None:
    rows, source = experiment_rows(tmp_path, HEADER + line + "\n")
    with pytest.raises(RowError) as caught:
        rows.events(source[0])
    assert caught.value.column == column


def test_time_column_dates_the_exposure_and_what_follows(tmp_path: Path) -> None:
    text = "arm,visit,spend,history,zip,at\nMail,1,0,5,x,1970-02-01T00:00:00Z\n"
    rows, source = experiment_rows(tmp_path, text, time="at")
    exposure, history, visit = rows.events(source[0])
    assert exposure.event_time.seconds == 31 * 86_400
    assert history.event_time.seconds == 9 * 86_400
    assert visit.event_time.seconds == 31 * 86_400 + 1


def journey_rows(folder: Path, text: str, **changes: object) -> tuple[JourneyRows, list[SourceRow]]:
    source = open_source(csv_file(folder, text))
    settings: dict[str, object] = {
        "dataset": "ads",
        "unit": "who",
        "unit_type": "user",
        "time": "at",
        "channel": "channel",
        "interaction": "did",
        "conversion_when": "conversion",
        "conversion": None,
        "value": "value",
        "cost": "cost",
        "event_name": "order",
        "currency": "EUR",
        "source": "import",
        **changes,
    }
    return JourneyRows(JourneyMapping(**settings), source), list(source.rows())  # type: ignore[arg-type]


JOURNEYS = (
    "who,at,channel,did,value,cost,won\n"
    "a,2026-01-01,Search,impression,0,0.5,0\n"
    "a,2026-01-02,Social,conversion,12.5,,1\n"
)


def test_conversion_row_is_the_last_touch_and_the_conversion(tmp_path: Path) -> None:
    rows, source = journey_rows(tmp_path, JOURNEYS)
    assert kinds(rows.events(source[0])) == ["touchpoint"]
    touch, order = rows.events(source[1])
    assert touch.touchpoint.channel == "Social"
    assert touch.touchpoint.interaction == "conversion"
    assert not touch.touchpoint.HasField("cost")
    assert order.conversion.value == 12.5
    assert order.conversion.currency == "EUR"
    assert order.event_time == touch.event_time
    assert rows.events(source[0])[0].touchpoint.cost == 0.5


def test_conversion_column_decides_where_it_is_named(tmp_path: Path) -> None:
    rows, source = journey_rows(tmp_path, JOURNEYS, conversion="won", interaction=None)
    assert [len(rows.events(row)) for row in source] == [1, 2]


@pytest.mark.parametrize(
    ("line", "column"),
    [
        (",2026-01-01,Search,impression,0,0,0", "who"),
        ("a,soon,Search,impression,0,0,0", "at"),
        ("a,2026-01-01,,impression,0,0,0", "channel"),
        ("a,2026-01-01,Search,impression,0,-1,0", "cost"),
        ("a,2026-01-01,Search,conversion,much,0,0", "value"),
    ],
)
def test_bad_journey_row_is_rejected(tmp_path: Path, line: str, column: str) -> None:
    rows, source = journey_rows(tmp_path, JOURNEYS.splitlines()[0] + "\n" + line + "\n")
    with pytest.raises(RowError) as caught:
        rows.events(source[0])
    assert caught.value.column == column


@given(st.integers(2, 100))
def test_equal_weights_sum_to_the_whole(count: int) -> None:
    weights = with_equal_weights([(f"v{n}", None) for n in range(count)]).values()
    assert sum(weights) == WHOLE
    assert max(weights) - min(weights) <= 1


def test_weights_that_are_given_are_kept() -> None:
    assert with_equal_weights([("a", 9000), ("b", None), ("c", None)]) == {
        "a": 9000,
        "b": 500,
        "c": 500,
    }
    assert parse_weight("No=Mail=50") == ("No=Mail", 50)


@pytest.mark.parametrize(
    "given_weights", [[("a", 5000), ("b", 4000)], [("a", 10_000), ("b", None)]]
)
def test_weights_that_do_not_sum_are_refused(given_weights: list[tuple[str, int | None]]) -> None:
    import typer

    with pytest.raises(typer.BadParameter, match="allowed: 10000 over all variants"):
        with_equal_weights(given_weights)
    with pytest.raises(typer.BadParameter, match="from 1 to 10000"):
        parse_weight("a=0")
    with pytest.raises(typer.BadParameter, match="twice"):
        with_equal_weights([("a", None), ("a", None)])


def test_weights_of_an_experiment_that_was_assigned_elsewhere_are_ratios() -> None:
    import typer

    assert relative_weights([("a", None), ("b", None)]) == {"a": 1, "b": 1}
    assert relative_weights([("a", 1), ("b", 2)]) == {"a": 1, "b": 2}
    with pytest.raises(typer.BadParameter, match="'b' has no weight"):
        relative_weights([("a", 1), ("b", None)])
    with pytest.raises(typer.BadParameter, match="twice"):
        relative_weights([("a", None), ("a", None)])
