"""What goes to standard output, and what may never get there as it came."""

from __future__ import annotations

import csv
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from touchstone.results.v1 import results_pb2 as pb

from services.cli.commands.results import title
from services.cli.figures import ends, estimate, p_value, percent, probability
from services.cli.rendering import Column, Format, View, columns, neutral, write
from services.cli.terminal import printable


def written(view: View, form: Format) -> str:
    out = io.StringIO()
    write(view, form, out)
    return out.getvalue()


@pytest.mark.parametrize("text", ["=1+1", "+cmd", "-x", "@SUM(A1)", "-1+1|cmd", "+", "-"])
def test_text_that_looks_like_a_formula_gets_an_apostrophe(text: str) -> None:
    assert neutral(text).startswith("'")


@pytest.mark.parametrize("text", ["-1", "+2.5", "-1e-7", "plain", "a=b", "", "-.5"])
def test_plain_numbers_and_text_stay_as_they_are(text: str) -> None:
    assert neutral(text) == text


def test_csv_keeps_every_digit_and_says_nothing_for_nothing() -> None:
    view = View({}, columns("a", "b", "c", "d"), [(0.1 + 0.2, None, True, -3)])
    assert written(view, Format.CSV) == "a,b,c,d\n0.30000000000000004,,true,-3\n"


@given(st.text())
def test_csv_cells_survive_reading_and_start_no_formula(text: str) -> None:
    out = written(View({}, columns("a"), [(text,)]), Format.CSV)
    cell = list(csv.reader(io.StringIO(out)))[1:]
    got = cell[0][0] if cell and cell[0] else ""
    assert got.removeprefix("'") == printable(text).removeprefix("'")
    assert not got.startswith(("=", "@"))


@given(st.text())
def test_nothing_printable_moves_the_cursor(text: str) -> None:
    shown = printable(text)
    assert "\x1b" not in shown
    assert all(
        character.isprintable() or character.isspace() for character in shown if character < "\x7f"
    )
    assert printable(shown) == shown


def test_control_characters_from_a_server_are_shown_as_what_they_are() -> None:
    assert printable("a\x1b[31mred\x07\u202e") == r"a\x1b[31mred\x07\u202e"
    table = written(View({}, columns("n\x1bame"), [("x\x1b]0;title\x07",)], "t\x1b"), Format.TABLE)
    assert "\x1b" not in table
    assert r"x\x1b]0;title\x07" in table


def test_table_in_a_pipe_is_never_cut_off() -> None:
    wide = "w" * 300
    out = written(View({}, columns("first", "second"), [(wide, wide)]), Format.TABLE)
    assert out.count(wide) == 2


def test_markup_in_a_cell_is_text() -> None:
    assert "[bold]x[/bold]" in written(View({}, columns("a"), [("[bold]x[/bold]",)]), Format.TABLE)


@pytest.mark.parametrize(
    ("alpha", "shown"), [(0.05, "95%"), (0.1, "90%"), (0.001, "99.9%"), (1e-9, "99.9999999%")]
)
def test_title_shows_the_level_of_the_intervals(alpha: float, shown: str) -> None:
    assert title("email", alpha) == f"email, {shown} intervals"


def test_brief_columns_are_for_the_table_alone() -> None:
    view = View({}, columns("a", "b"), [(1, 2)], brief=((Column("only"),), [("short",)]))
    assert "short" in written(view, Format.TABLE)
    assert written(view, Format.CSV) == "a,b\n1,2\n"


def test_json_is_the_protobuf_mapping_with_the_contract_s_names() -> None:
    message = pb.Results(multiply_exposed_units=2)
    document = json.loads(written(View(message, (), []), Format.JSON))
    assert document["multiply_exposed_units"] == "2"
    assert document["unknown_variant_exposures"] == "0"
    assert "multiplyExposedUnits" not in document


def test_json_is_ascii() -> None:
    message = pb.Results(experiment="caf\u00e9\x1b")
    assert written(View(message, (), []), Format.JSON).isascii()
    assert written(View({"a": "\u202e"}, (), []), Format.JSON).isascii()


def test_number_or_the_reason_why_there_is_none() -> None:
    assert estimate(pb.Estimate(value=0.0)) == 0.0
    assert estimate(pb.Estimate(not_estimable=pb.NOT_ESTIMABLE_ZERO_VARIANCE)) == "zero variance"
    assert estimate(pb.Estimate()) is None


def test_interval_shows_its_open_end_or_its_reason() -> None:
    assert ends(pb.Interval(low=-1, high=2, level=0.95)) == (-1, 2)
    half = pb.Interval(low=1, high_unbounded=True)
    assert ends(half) == (1, "inf")
    why = pb.NOT_ESTIMABLE_CONTROL_MEAN_NEAR_ZERO
    both = pb.Interval(low_unbounded=True, high_unbounded=True, not_estimable=why)
    assert ends(both) == ("unbounded",) * 2
    outside = pb.Interval(low=-1, high=2, complement=True, not_estimable=why)
    assert ends(outside) == ("outside (-1.0, 2.0)",) * 2
    assert ends(outside, percent) == ("outside (-100.00%, +200.00%)",) * 2
    bare = pb.Interval(low=-1, high=2, complement=True)
    assert ends(bare) == ends(outside)
    none = pb.Interval(not_estimable=pb.NOT_ESTIMABLE_ONE_UNIT)
    assert ends(none) == ("one unit",) * 2


def test_small_figures_never_round_to_certainty() -> None:
    assert p_value(1e-20) == "1.0e-20"
    assert p_value(0.0123) == "0.0123"
    assert probability(0.99999) == ">99.9%"
    assert probability(0.00001) == "<0.1%"
    assert (probability(1.0), probability(0.0), probability(0.5)) == (">99.9%", "<0.1%", "50.0%")
    assert percent(-0.001) == "-0.10%"
