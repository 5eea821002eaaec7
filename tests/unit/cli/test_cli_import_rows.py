"""Rows of files become events, or rejections with a reason."""

from __future__ import annotations

import datetime as dt
import os
import re
from collections.abc import Callable
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
from services.cli.importing.names import (
    distinct_keys,
    event_id,
    event_name,
    event_name_in,
    metric_id,
    require_currency,
    require_dataset,
    require_event_name,
    require_experiment_id,
    require_metric_id,
    require_unit_type,
    variant_key,
)
from services.cli.importing.sources import CsvSource, SourceRow, open_source, require_column
from services.cli.importing.survey import Columns, survey
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
    assert re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,62}", variant_key(name))
    # An event name that is a metric id as well.
    assert re.fullmatch(r"[a-z][a-z0-9_-]{0,62}", event_name(name))


@given(st.from_regex(r"\A[a-z][a-z0-9-]{0,62}\Z"), st.text())
def test_metrics_of_an_experiment_have_names_of_their_own(experiment: str, column: str) -> None:
    assert re.fullmatch(r"[a-z][a-z0-9_-]{0,62}", metric_id(experiment, column))
    assert re.fullmatch(r"[a-z][a-z0-9_.-]{0,62}", event_name_in(experiment, column))
    other = f"{experiment[:-1]}{'a' if experiment[-1] != 'a' else 'b'}"
    assert event_name_in(other, column) != event_name_in(experiment, column)
    assert metric_id(other, column) != metric_id(experiment, column)


def test_metric_is_named_by_experiment_and_column() -> None:
    assert metric_id("email", "Order Value") == "email-order_value"
    assert event_name_in("email", "Order Value") == "email.order_value"
    assert metric_id("a-b", "c") != metric_id("a", "b-c")


@pytest.mark.parametrize(
    ("check", "text", "words"),
    [
        (require_experiment_id, "My Test!", "such as my-test"),
        (require_experiment_id, "2025", "such as e-2025"),
        (require_metric_id, "My Metric", "such as my_metric"),
        (require_unit_type, "User", "lower-case letters, digits and underscores"),
        (require_event_name, "Order Placed", "such as order_placed"),
        (require_dataset, "../../x", "letters, digits, dots"),
        (require_currency, "euro", "such as EUR"),
    ],
)
def test_names_are_explained_in_words(check: Callable[[str], None], text: str, words: str) -> None:
    with pytest.raises(DomainError, match=words) as caught:
        check(text)
    assert "[a-z]" not in caught.value.message


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


def test_quote_that_is_not_closed_names_the_line_where_it_opened(tmp_path: Path) -> None:
    path = csv_file(tmp_path, 'a,b\n1,2\n3,"open\n5,6\n7,8"x,9\n')
    rows = list(CsvSource(path).rows())
    assert [row.line for row in rows] == [2, 3]
    assert rows[1].problem.startswith("a quote opened on line 3 is not closed; the row has 3")
    # As wide as it should be, and all the same not closed.
    rows = list(CsvSource(csv_file(tmp_path, 'a,b\n1,2\n3,"open\n5,6\n')).rows())
    assert [row.problem for row in rows] == ["", "a quote opened on line 3 is not closed"]


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_cells_are_apart_by_what_parts_the_header(tmp_path: Path, mark: str) -> None:
    source = CsvSource(csv_file(tmp_path, f"a{mark}b b\n1{mark}x\n"))
    assert (source.columns, source.delimiter) == (("a", "b b"), mark)
    assert [row.cells for row in source.rows()] == [["1", "x"]]
    assert CsvSource(csv_file(tmp_path, "a\n1;2\n")).delimiter == ","


def test_what_cannot_be_read_twice_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DomainError, match="save what comes in to a file first"):
        open_source(tmp_path / "pipe")


def test_damaged_parquet_is_an_error_that_names_the_row(tmp_path: Path) -> None:
    path = tmp_path / "file.parquet"
    pq.write_table(pa.table({"a": list(range(50_000))}), path, use_dictionary=False)
    content = bytearray(path.read_bytes())
    content[4:200] = b"\xff" * 196
    path.write_bytes(content)
    with pytest.raises(DomainError, match="damaged behind row 0"):
        list(open_source(path).rows())


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
    found = survey(open_source(path), Columns("arm", ["bought", "spend"], "at"))
    assert found.variants == ("B", "A"), "in the order of the file"
    assert found.rows == 4
    assert found.means == {"spend": (2, "2.5")}
    assert found.earliest_us == cells.time_us("2026-01-01", "at")
    assert found.latest_us == cells.time_us("2026-01-02", "at")
    assert found.repeated == {}


def test_cells_that_are_no_numbers_do_not_make_a_proportion_a_mean(tmp_path: Path) -> None:
    path = csv_file(tmp_path, "arm,a,b\nA,0.00,1\nB,1.00,maybe\nA,n/a,\nB,1e0,yes\n")
    assert survey(open_source(path), Columns("arm", ["a", "b"])).means == {}
    path = csv_file(tmp_path, "arm,a\nA,0.00\nB,bad\nB,1.01\n")
    assert survey(open_source(path), Columns("arm", ["a"])).means == {"a": (4, "1.01")}


def test_second_row_of_a_unit_is_rejected(tmp_path: Path) -> None:
    text = "who,arm,visit,spend,history,zip\nx,Mail,1,1,,\ny,Mail,1,1,,\nx,No Mail,1,1,,\n"
    rows, source = experiment_rows(tmp_path, text, unit="who")
    assert len(rows.events(source[0])) == len(rows.events(source[1])) == 3
    with pytest.raises(RowError, match="unit 'x' stands in row 1 already"):
        rows.events(source[2])


def test_column_that_cannot_name_arms_is_refused(tmp_path: Path) -> None:
    many = csv_file(tmp_path, "id\n" + "".join(f"u{n}\n" for n in range(500)))
    with pytest.raises(DomainError, match="more than 100"):
        survey(open_source(many), Columns("id", []))
    one = csv_file(tmp_path, "id\na\na\n")
    with pytest.raises(DomainError, match="1 different values"):
        survey(open_source(one), Columns("id", []))


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
        "metrics": (
            MetricColumn("visit", "email-visit", "email.visit", True),
            MetricColumn("spend", "email-spend", "email.spend", False),
        ),
        "covariates": (("history", "email.history"),),
        "attributes": ("zip",),
        "time": None,
        "start_us": 10 * DAY_US,
        "source": "import",
        **changes,
    }
    mapping = ExperimentMapping(**settings)  # type: ignore[arg-type]
    unit = None if mapping.unit == "row" else mapping.unit
    found = survey(source, Columns("arm", [], unit=unit)).repeated if unit else {}
    return ExperimentRows(mapping, source, found), list(source.rows())


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
    assert ids == [
        "mail:1:exposure:email",
        "mail:1:email.history",
        "mail:1:email.visit",
        "mail:1:email.spend",
    ]
    assert ids == [event.event_id for event in rows.events(source[0])]


def test_money_says_its_currency_and_nothing_else_does(tmp_path: Path) -> None:
    paid = MetricColumn("spend", "email-spend", "email.spend", False, "USD")
    seen = MetricColumn("visit", "email-visit", "email.visit", True)
    rows, read = experiment_rows(tmp_path, HEADER + "Mail,1,12.5,320,Urban\n", metrics=(seen, paid))
    _, *measured = rows.events(read[0])
    currencies = {e.conversion.event_name: e.conversion.currency for e in measured}
    assert currencies == {"email.history": "", "email.visit": "", "email.spend": "USD"}


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
        ("a\tb,2026-01-01,Search,impression,0,0,0", "who"),
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
