"""Files as people have them: what is read, what is refused, and what is said of it."""

from __future__ import annotations

import datetime as dt
import decimal
import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from touchstone.events.v1.event_pb2 import Event
from touchstone.events.v1.events_service_pb2 import LogEventsRequest

from services.cli.importing.bulk.chunks import CHUNK_BYTES
from services.cli.importing.bulk.conversion import BadRow
from services.cli.importing.bulk.encoding import EventEncoder
from services.cli.importing.bulk.fields import kind_of
from services.cli.importing.bulk.importing import EventImport, plan
from services.cli.importing.bulk.instants import InstantRules
from services.cli.importing.bulk.mapping import read_mapping
from services.cli.importing.bulk.opening import FileFormat, found_files
from services.cli.importing.bulk.parts import Parts
from shared.errors import DomainError

HEADER = "event_id,event_time,unit_type,unit_id,event_name,value,currency,properties\n"
ROW = "e{0},2026-03-02T13:43:00Z,user,u{0},visit,1.5,EUR,\n"
NOON = "2026-03-02T12:00:00Z"


class Read:
    """What an import of files would send, and what not."""

    def __init__(
        self,
        *files: Path,
        kind: str = "conversions",
        rules: InstantRules | None = None,
        maps: tuple[str, ...] = (),
        constants: tuple[str, ...] = (),
        ignore_unknown: bool = False,
        id_prefix: str = "",
        file_format: FileFormat | None = None,
    ) -> None:
        mapping = read_mapping(
            kind_of(kind), rules or InstantRules(), maps, constants, ignore_unknown=ignore_unknown
        )
        names = tuple(map(str, files))
        wanted = EventImport(names, file_format, mapping, id_prefix, 0, Path("unused"))
        parts = Parts(plan(wanted), EventEncoder(mapping.kind))
        self.events: list[Event] = []
        self.bad: list[BadRow] = []
        self.rows = 0
        for part in parts:
            self.events += LogEventsRequest.FromString(part.body).events
            self.bad += part.bad
            self.rows += part.rows
        self.problem = parts.problem

    @property
    def reasons(self) -> list[tuple[int, str, str]]:
        return [(bad.row, bad.column, bad.reason) for bad in self.bad]


def refusal(*files: Path, **options: object) -> str:
    with pytest.raises(DomainError) as found:
        Read(*files, **options)  # type: ignore[arg-type]  # as Read takes them
    return found.value.message


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def parquet(path: Path, **columns: pa.Array) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def whole(count: int) -> dict[str, pa.Array]:
    """The columns that a conversion needs."""
    return {
        "event_id": pa.array([f"e{n}" for n in range(count)]),
        "event_time": pa.array([dt.datetime(2026, 3, 2, 12, tzinfo=dt.UTC)] * count),
        "unit_type": pa.array(["user"] * count),
        "unit_id": pa.array([f"u{n}" for n in range(count)]),
        "event_name": pa.array(["visit"] * count),
    }


def test_bad_rows_of_a_csv_file_are_told_and_the_rest_goes_on(tmp_path: Path) -> None:
    """Byte order mark, CRLF, empty lines, quoted line breaks; each bad row by its number."""
    lines = [
        'e1,2026-03-02T13:43:00Z,user,u1,visit,1.5,EUR,"{""a"": 1}"',
        "e2,2026-03-02T13:43:00Z,user",
        "",
        "e3,2026-03-02T13:43:00Z,user,u3,visit,much,EUR,",
        "e4,yesterday,user,u4,visit,1,EUR,",
        "e5,2026-03-02T13:43:00Z,user,\xff,visit,1,EUR,",
        'e6,2026-03-02T13:43:00Z,user,"u\n6",visit,1,EUR,',
        "e7,2026-03-02T13:43:00Z,user,u7,visit,inf,EUR,",
        "e8,2026-03-02T13:43:00Z,user,u8,visit,1,EUR,[1]",
        ",2026-03-02T13:43:00Z,user,u9,visit,1,EUR,",
        "e10,2026-03-02T13:43:00Z,user,u\x0010,visit,,,",
        "e11,2026-03-02T13:43:00Z,user,u11,visit,1,EUR,,,",
    ]
    text = "\r\n".join([HEADER.strip(), *lines]) + "\r\n"
    read = Read(write(tmp_path / "rows.csv", b"\xef\xbb\xbf" + text.encode("latin-1")))
    assert [event.event_id for event in read.events] == ["e1", "e6", "e10"]
    assert [event.unit.id for event in read.events] == ["u1", "u\n6", "u\x0010"]
    assert not read.events[2].conversion.HasField("value")
    assert read.rows == 11
    found = {row: (column, reason) for row, column, reason in read.reasons}
    assert found.keys() == {2, 3, 4, 5, 7, 8, 9, 11}
    assert found[2] == ("", "the row has 3 fields; allowed: 8, as in the header")
    assert found[3] == ("value", "is 'much'; allowed: a finite number such as 12.5")
    assert found[4][0] == "event_time"
    assert "is 'yesterday'; allowed: RFC 3339" in found[4][1]
    assert found[5] == ("unit_id", "is no UTF-8; save the file as UTF-8")
    assert found[7] == ("value", "is 'inf'; allowed: a finite number such as 12.5")
    assert "a JSON object" in found[8][1]
    assert found[9][0] == "event_id"
    assert "is empty" in found[9][1]
    assert "10 fields" in found[11][1]


def test_row_numbers_hold_over_many_chunks(tmp_path: Path) -> None:
    """Each 7th row is torn; the numbers of the others are those of the file."""
    count = 120_000
    rows = [ROW.format(n) if n % 7 else "torn\n" for n in range(1, count + 1)]
    file = write(tmp_path / "rows.csv", HEADER.replace("event_id", "id") + "".join(rows))
    read = Read(file, maps=("id=event_id",))
    assert [bad.row for bad in read.bad] == list(range(7, count + 1, 7))
    assert [event.event_id for event in read.events] == [
        f"e{n}" for n in range(1, count + 1) if n % 7
    ]
    assert file.stat().st_size > CHUNK_BYTES
    assert read.rows == count


def test_bad_lines_of_json_are_told_and_the_rest_goes_on(tmp_path: Path) -> None:
    """By the number of the line; empty lines are none."""
    good = {"event_time": NOON, "unit_type": "user", "unit_id": 5, "event_name": "visit"}
    lines = [
        json.dumps(good),
        "",
        json.dumps(good | {"value": "12.5", "properties": {"a": [1, None, {"b": "ü"}]}}),
        "{torn",
        "[1]",
        json.dumps(good | {"plan": "gold"}),
        json.dumps(good | {"value": [1]}),
        json.dumps({name: value for name, value in good.items() if name != "unit_id"}),
        json.dumps(good | {"project": "p", "day": "2026-03-02"}),
        json.dumps(good | {"linked_units": [{"type": "device", "id": "d"}]}),
    ]
    file = write(tmp_path / "rows.jsonl", "\n".join(lines).encode() + b"\n\xff\xfe\n")
    read = Read(file, id_prefix="x")
    assert [e.event_id for e in read.events] == [f"x:conversions:{n}" for n in (1, 3, 9, 10)]
    assert read.events[0].unit.id == "5"
    assert read.events[1].conversion.value == 12.5
    assert read.events[3].linked_units[0].id == "d"
    found = {row: reason for row, _, reason in read.reasons}
    assert found.keys() == {4, 5, 6, 7, 8, 11}
    assert found[4] == found[5] == found[11]
    assert "holds 'plan', which is no column" in found[6]
    assert len(Read(file, id_prefix="x", ignore_unknown=True).events) == 5


def test_names_without_a_value_and_names_of_the_service_are_passed_over(tmp_path: Path) -> None:
    """In lines that are all good, and a name that is neither is told."""
    good: dict[str, object] = {"event_id": "e", "event_time": NOON}
    good |= {
        "unit_type": "user",
        "unit_id": "u",
        "event_name": "visit",
        "value": None,
        "project": "p",
        "position": 5,
    }
    file = write(tmp_path / "rows.ndjson", 3 * (json.dumps(good) + "\n"))
    assert len(Read(file).events) == 3
    write(file, json.dumps(good) + "\n" + json.dumps({**good, "value": None, "plan": None}) + "\n")
    read = Read(file)
    assert (len(read.events), [bad.row for bad in read.bad]) == (1, [2])


@pytest.mark.parametrize(
    ("texts", "rules", "expected"),
    [
        (["2026-03-02T13:00:00+01:00", "2026-03-02 12:00:00Z"], InstantRules(), [NOON, NOON]),
        (["2026-03-02T12:00:00.123456789Z"], InstantRules(), ["2026-03-02T12:00:00.123456Z"]),
        (
            ["2026-03-02", "2026-03-03"],
            InstantRules(),
            ["2026-03-02T00:00:00Z", "2026-03-03T00:00:00Z"],
        ),
        (["2026-03-02"], InstantRules("Europe/Berlin"), ["2026-03-01T23:00:00Z"]),
        (["2026-07-02T12:00:00"], InstantRules("Europe/Berlin"), ["2026-07-02T10:00:00Z"]),
        (["2026-03-02T13:00:00", NOON], InstantRules("Europe/Berlin"), [NOON, NOON]),
        (
            ["1772452800", "1772452800.5"],
            InstantRules(epoch="s"),
            [NOON, "2026-03-02T12:00:00.500Z"],
        ),
        (["1772452800000"], InstantRules(epoch="ms"), [NOON]),
        (["1772452800000000"], InstantRules(epoch="us"), [NOON]),
        (["2026-03-02T12:00:00"], InstantRules(), ["without a zone; name it with --time-zone"]),
        (["2026-03-29T02:30:00"], InstantRules("Europe/Berlin"), ["twice or never"]),
        (["2026-10-25T02:30:00"], InstantRules("Europe/Berlin"), ["twice or never"]),
        (["2026-02-30T12:00:00Z"], InstantRules(), ["allowed: RFC 3339"]),
        (["99999999999999"], InstantRules(epoch="s"), ["the year 1 to 9999"]),
        (["noon"], InstantRules(epoch="s"), ["a number of s since 1970"]),
    ],
)
def test_times(texts: list[str], rules: InstantRules, expected: list[str], tmp_path: Path) -> None:
    """With a zone, without one, days, numbers; and what is said of those that cannot be placed."""
    rows = [f"e,{text},user,u,visit,,,\n" for text in texts]
    read = Read(write(tmp_path / "rows.csv", HEADER + "".join(rows)), rules=rules)
    shown = [event.event_time.ToJsonString() for event in read.events]
    assert len(shown) + len(read.bad) == len(expected)
    for text, reason in zip(expected, [*shown, *(bad.reason for bad in read.bad)], strict=True):
        assert text in reason


def test_parquet_of_other_types(tmp_path: Path) -> None:
    """Dictionaries, large strings, decimals, whole numbers as ids, days, nested lists and maps."""
    columns = whole(2) | {
        "event_id": pa.array([7, 8], pa.int32()),
        "unit_id": pa.array([decimal.Decimal(1), decimal.Decimal(2)], pa.decimal128(20, 0)),
        "event_name": pa.array(["visit", "order"], pa.large_string()).dictionary_encode(),
        "event_time": pa.array([20_514, 20_515], pa.date32()),
        "value": pa.array([decimal.Decimal("1.25"), None], pa.decimal128(9, 2)),
        "linked_units": pa.array([[{"type": "device", "id": "d"}], None]),
        "properties": pa.array([{"a": 1, "b": None, "c": {"d": "x"}}, None]),
        "currency": pa.array([b"EUR", None], pa.binary()),
    }
    one, two = Read(parquet(tmp_path / "rows.parquet", **columns)).events
    assert (one.event_id, one.unit.id, one.conversion.event_name) == ("7", "1", "visit")
    assert (one.conversion.value, two.conversion.HasField("value")) == (1.25, False)
    assert one.event_time.ToJsonString() == "2026-03-02T00:00:00Z"
    assert one.linked_units[0].type == "device"
    assert dict(one.properties) == {"a": 1, "c": dict_of(one, "c")}
    assert not two.HasField("properties")


def dict_of(event: Event, name: str) -> object:
    return event.properties.fields[name].struct_value


@pytest.mark.parametrize(
    ("unit", "zone"),
    [("s", "UTC"), ("ms", "UTC"), ("us", None), ("ns", "Europe/Berlin"), ("ns", None)],
)
def test_parquet_times_of_every_unit(unit: str, zone: str | None, tmp_path: Path) -> None:
    """A column without a zone needs one to be named."""
    noon = pa.array([1_772_452_800_000_000], pa.timestamp("us", tz=zone)).cast(
        pa.timestamp(unit, tz=zone)
    )
    file = parquet(tmp_path / "rows.parquet", **whole(1) | {"event_time": noon})
    (event,) = Read(file, rules=InstantRules("UTC")).events
    assert event.event_time.ToJsonString() == NOON
    if zone is None:
        assert "without a zone; name it with --time-zone" in refusal(file)


@pytest.mark.parametrize(
    ("name", "column", "said"),
    [
        ("unit_id", pa.array([1.0]), "is of the type double; allowed: text or whole numbers"),
        ("value", pa.array([True]), "is of the type bool; allowed: a number"),
        ("event_time", pa.array([1_772_452_800]), "say with --epoch whether it is s, ms or us"),
        ("properties", pa.array([5]), "is of the type int64; allowed: JSON objects"),
        ("linked_units", pa.array([["d1"]]), "is of the type list<"),
    ],
)
def test_columns_of_a_wrong_type_are_refused_before_anything_is_sent(
    name: str, column: pa.Array, said: str, tmp_path: Path
) -> None:
    file = parquet(tmp_path / "rows.parquet", **whole(1) | {name: column})
    assert said in refusal(file)


def test_names_and_constants(tmp_path: Path) -> None:
    """--map, --set, one column for two fields, and what the service fills in itself."""
    file = write(
        tmp_path / "rows.csv",
        f"customer;at;what;unit_type;project\nc1;{NOON};visit;browser;p\n",
    )
    maps = ("customer=unit_id", "customer=event_id", "at=event_time", "what=event_name")
    (event,) = Read(file, maps=maps, constants=("unit_type=user", "value=2.5")).events
    assert (event.event_id, event.unit.type, event.unit.id) == ("c1", "user", "c1")
    assert event.conversion.value == 2.5
    assert "--map COLUMN=event_time or --set event_time=VALUE" in refusal(file)
    assert "it has unit_type" not in refusal(file)
    assert "a column of" in refusal(file, maps=("client=unit_id",))
    assert "a field of conversions" in refusal(file, maps=("customer=channel",))
    assert "a finite number" in refusal(file, constants=("value=much",))
    assert "one --map or --set" in refusal(file, maps=("what=value",), constants=("value=1",))
    assert "one column for unit_id" in refusal(file, maps=("customer=unit_id", "at=unit_id"))
    extra = write(tmp_path / "more.csv", HEADER.strip() + ",plan\n")
    assert "it has plan; map them with --map" in refusal(extra)
    assert Read(extra, ignore_unknown=True).events == []


def test_files_that_are_no_files_of_rows(tmp_path: Path) -> None:
    """Each with its own reason, before anything is sent."""
    assert "it is empty" in refusal(write(tmp_path / "empty.csv", ""))
    assert "another encoding" in refusal(
        write(tmp_path / "latin.csv", "gr\xf6\xdfe,b\n".encode("latin-1"))
    )
    assert "'a' is twice" in refusal(write(tmp_path / "twice.csv", "a,a\n"))
    assert "a readable parquet file" in refusal(write(tmp_path / "no.parquet", "PAR1"))
    assert "an ending of" in refusal(write(tmp_path / "rows.xlsx", "x"))
    cut = gzip.compress((HEADER + ROW.format(1) * 1000).encode())[:-30]
    assert "a readable csv file" in refusal(write(tmp_path / "cut.csv.gz", cut))
    assert Read(write(tmp_path / "none.ndjson", "")).rows == 0
    assert Read(write(tmp_path / "header.csv", HEADER.strip())).rows == 0
    with pytest.raises(DomainError, match="files that exist"):
        found_files([str(tmp_path / "nothing-*.csv")])
    with pytest.raises(DomainError, match="IANA"):
        InstantRules("Mars/Olympus")
    two = (write(tmp_path / "1.csv", HEADER), write(tmp_path / "2.csv", HEADER))
    assert "rows of several would get the same ids" in refusal(*two, id_prefix="x")


def test_patterns_and_compressions(tmp_path: Path) -> None:
    """Each file once, in the order of their names; gz and zst are read like the plain file."""
    text = (HEADER + ROW.format(1)).encode()
    write(tmp_path / "b.csv.gz", gzip.compress(text))
    with pa.output_stream(str(tmp_path / "c.csv.zst"), compression="zstd") as out:
        out.write(text)
    write(tmp_path / "a.csv", text)
    files = found_files([str(tmp_path / "*.csv*"), str(tmp_path / "a.csv")])
    assert [Path(file).name for file in files] == ["a.csv", "b.csv.gz", "c.csv.zst"]
    events = Read(*map(Path, files)).events
    assert len(events) == 3
    assert events[0] == events[1] == events[2]


def test_rows_that_cannot_be_told_apart_end_the_file(tmp_path: Path) -> None:
    """What lies before is kept; the place is named."""
    many = "".join(ROW.format(n) for n in range(2 * CHUNK_BYTES // len(ROW)))
    torn = 'e,2026-03-02T13:43:00Z,user,"u,visit,1,EUR,\n' + "x" * (3 * CHUNK_BYTES) + "\n"
    read = Read(write(tmp_path / "rows.csv", HEADER + many + torn))
    assert read.problem is not None
    assert "a quote is not closed" in read.problem.message
    assert len(read.events) > 10_000
    assert f"behind row {len(read.events)}" in read.problem.message
    good = json.dumps(
        {
            "event_id": "e",
            "event_time": NOON,
            "unit_type": "user",
            "unit_id": "u",
            "event_name": "v",
        }
    )
    read = Read(write(tmp_path / "rows.ndjson", good + "\n" + "x" * (3 * CHUNK_BYTES)))
    assert read.problem is not None
    assert "behind line 1: a line is longer" in read.problem.message


@pytest.mark.parametrize("torn", ['e3,{0},user,"u,visit,1,EUR,', 'e3,{0},user,u,visit,1,EUR,"'])
def test_quote_that_is_not_closed_swallows_nothing_unsaid(torn: str, tmp_path: Path) -> None:
    """Whether or not what it swallows has as many fields as a row."""
    text = (
        HEADER + ROW.format(1) + 'e2,{0},user,"u\n2",visit,1,EUR,\n' + torn + "\n" + ROW.format(4)
    )
    read = Read(write(tmp_path / "rows.csv", text.replace("{0}", NOON)))
    assert [event.event_id for event in read.events] == ["e1", "e2"]
    assert read.reasons[0][0] == 3
    assert "a quote in the row is not closed" in read.reasons[0][2]
    whole_text = HEADER + f'e1,{NOON},user,"u\n1",visit,1,EUR,\n'
    assert len(Read(write(tmp_path / "whole.csv", whole_text)).events) == 1


def test_huge_fields(tmp_path: Path) -> None:
    """An event that no request holds is told by its row."""
    rows = ROW.format(1) + ROW.format(2).replace("EUR", "E" * 3_000_000) + ROW.format(3)
    read = Read(write(tmp_path / "rows.csv", HEADER + rows))
    assert [event.event_id for event in read.events] == ["e1", "e3"]
    assert read.reasons[0][0] == 2
    assert "more than" in read.reasons[0][2]


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path: Path) -> None:
    """Its ids would not be those of the next import."""
    file = write(tmp_path / "rows.csv", HEADER + ROW.format(1))
    mapping = read_mapping(kind_of("conversions"), InstantRules(), (), (), ignore_unknown=False)
    files = plan(EventImport((str(file),), None, mapping, "", 0, Path("unused")))
    write(file, HEADER + ROW.format(1) + ROW.format(2))
    parts = Parts(files, EventEncoder(mapping.kind))
    assert list(parts) == []
    assert parts.problem is not None
    assert "was written to while it was read" in parts.problem.message
