"""Credits as files."""

import csv
import hashlib
import io
import tempfile
from collections.abc import Iterator
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq

from services.attribution.application.stream_credits import CreditPage, Credits

PART_BYTES = 1 << 18
_TIME = pa.timestamp("us", tz="UTC")
_SCHEMA = pa.schema(
    [
        ("conversion_id", pa.string()),
        ("touch_id", pa.string()),
        ("unit_id", pa.string()),
        ("channel", pa.string()),
        ("touch_time", _TIME),
        ("conversion_time", _TIME),
        ("weight", pa.float64()),
        ("value", pa.float64()),
    ]
)


def parquet_file(credits_: Credits) -> Iterator[tuple[bytes, str]]:
    """The parts of a Parquet file; with the last, which is empty, the SHA-256 of the whole."""
    with tempfile.TemporaryFile() as file:
        with pq.ParquetWriter(file, _SCHEMA, compression="zstd") as writer:
            for page in credits_.pages:
                writer.write_table(_table(page))
        yield from _parts(file)


def csv_file(credits_: Credits) -> Iterator[tuple[bytes, str]]:
    """The parts of a CSV file; with the last, which is empty, the SHA-256 of the whole."""
    with tempfile.TemporaryFile() as file:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="")
        sheet = csv.writer(text, lineterminator="\n")
        sheet.writerow(_SCHEMA.names)
        for page in credits_.pages:
            table = _table(page)
            columns = [
                column.cast(pa.string()) if column.type == _TIME else column
                for column in table.columns
            ]
            sheet.writerows(zip(*(column.to_pylist() for column in columns), strict=True))
        text.flush()
        yield from _parts(file)


def _table(page: CreditPage) -> pa.Table:
    columns = (
        page.conversion_ids,
        page.touch_ids,
        page.unit_ids,
        page.channels,
        page.touch_times,
        page.conversion_times,
        page.weights,
        page.values,
    )
    arrays = [pa.array(c, field.type) for c, field in zip(columns, _SCHEMA, strict=True)]
    return pa.Table.from_arrays(arrays, schema=_SCHEMA)


def _parts(file: IO[bytes]) -> Iterator[tuple[bytes, str]]:
    digest = hashlib.sha256()
    file.seek(0)
    while part := file.read(PART_BYTES):
        digest.update(part)
        yield part, ""
    yield b"", digest.hexdigest()
