"""Spend from files: what a row becomes, and what is refused."""

from pathlib import Path

import pytest
from touchstone.attribution.v1 import spend_service_pb2 as pb

from services.cli.commands.spend import AT_ONCE, parts, tell_repeated
from services.cli.importing.sources import open_source
from services.cli.importing.spend_rows import SpendFile, SpendMapping, spend_file
from shared.errors import DomainError

MAPPING = SpendMapping("books", "day", "channel", "paid", "campaign", "CNY")


def written(tmp_path: Path, *lines: str) -> Path:
    path = tmp_path / "spend.csv"
    path.write_text("\n".join(("day,channel,campaign,paid,money,who", *lines)) + "\n")
    return path


def test_rows_are_read_and_the_same_row_twice_is_one(tmp_path: Path) -> None:
    line = "2026-01-31,ads,spring,12.50,USD,platform"
    source = open_source(written(tmp_path, line, line, "2026-02-01,mail,,0,EUR,agency"))

    found = spend_file(MAPPING, source)
    rows = found.rows

    assert found.repeated == [3]
    assert [(r.source, r.channel, r.campaign, r.day, r.amount, r.currency) for r in rows] == [
        ("books", "ads", "spring", "2026-01-31", 12.5, "CNY"),
        ("books", "mail", "", "2026-02-01", 0.0, "CNY"),
    ]
    columns = SpendMapping("", "day", "channel", "paid", "", "", "money", "who")
    rows = spend_file(columns, source).rows
    assert [(r.source, r.campaign, r.currency) for r in rows] == [
        ("platform", "", "USD"),
        ("agency", "", "EUR"),
    ]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("2026-02-30,ads,,1,CNY,x", "line 3: day"),
        ("31.1.2026,ads,,1,CNY,x", "line 3: day"),
        ("2026-01-31,ads,,-1,CNY,x", "FILE line 3: paid is -1.0; allowed: 0 and above"),
        ("2026-01-31,ads,,NaN,CNY,x", "paid is 'NaN'; allowed: a finite number"),
        ("2026-01-31,ads,,1e999,CNY,x", "a finite number"),
        ("2026-01-31,ads,,much,CNY,x", "line 3: paid"),
        ("2026-01-31, ,,1,CNY,x", "line 3: channel"),
        ("2026-01-31,ads", "the row has 2 fields"),
        ("2026-01-01,ads,,2,CNY,x", "2026-01-01 in lines 2 and 3; allowed: one row"),
    ],
)
def test_a_row_that_is_wrong_refuses_the_file(tmp_path: Path, line: str, said: str) -> None:
    source = open_source(written(tmp_path, "2026-01-01,ads,,1,CNY,x", line))
    with pytest.raises(DomainError, match=said):
        spend_file(MAPPING, source)


def test_lines_that_count_once_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    tell_repeated(SpendFile([], []))
    assert capsys.readouterr().err == ""
    tell_repeated(SpendFile([], [3, 4, 5, 6, 7, 9, 11]))
    assert "lines 3, 4, 5, 6, 7 and 2 more" in capsys.readouterr().err


def test_a_day_of_a_source_is_sent_in_one_part() -> None:
    rows = [
        pb.Spend(source=source, day=f"2026-01-{day:02}", campaign=f"c{n}")
        for n in range(400)
        for day in range(1, 29)
        for source in ("a", "b")
    ]

    found = list(parts(rows))

    assert sum(len(part) for part in found) == len(rows)
    assert max(len(part) for part in found) <= AT_ONCE
    days = [{(row.source, row.day) for row in part} for part in found]
    assert sum(map(len, days)) == len(set.union(*days)) == 56
    assert list(parts([])) == []


def test_the_example_of_the_documentation_is_read() -> None:
    path = Path(__file__).parents[3] / "docs" / "examples" / "spend.csv"
    mapping = SpendMapping("", "day", "channel", "amount", "campaign", "USD", "", "source")
    rows = spend_file(mapping, open_source(path)).rows
    assert len(rows) == 162
    assert {row.source for row in rows} == {"platform", "agency"}
