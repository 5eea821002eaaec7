"""Credits as files."""

import csv
import hashlib
import io
from collections.abc import Iterable, Iterator, Mapping
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq

from services.attribution.application.stream_credits import CreditPage
from shared.lake.interruption import require_wanted

PART_BYTES = 1 << 18
GROUP_ROWS = 10_000
"""What a reader has in memory at a time."""
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
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


def write_parquet(file: IO[bytes], pages: Iterable[CreditPage], said: Mapping[str, str]) -> None:
    """Write credits as a Parquet file whose pages have checksums, with what is said of them.

    InterruptedError when nobody wants them any more.
    """
    schema = _SCHEMA.with_metadata({name.encode(): text.encode() for name, text in said.items()})
    waiting: list[pa.Table] = []
    with pq.ParquetWriter(file, schema, compression="zstd", write_page_checksum=True) as writer:
        for page in pages:
            require_wanted()
            waiting.append(_table(page))
            if sum(table.num_rows for table in waiting) >= GROUP_ROWS:
                writer.write_table(pa.concat_tables(waiting).cast(schema))
                waiting.clear()
        writer.write_table(pa.concat_tables([_SCHEMA.empty_table(), *waiting]).cast(schema))


def pages_of(group: pa.Table, skip: int, size: int) -> Iterator[CreditPage]:
    """Pages of at most `size` out of what `write_parquet` wrote, behind the first `skip`."""
    for begin in range(skip, group.num_rows, size):
        columns = group.slice(begin, size)
        yield CreditPage(
            *(
                columns[field.name]
                .cast(pa.int64() if field.type == _TIME else field.type)
                .to_pylist()
                for field in _SCHEMA
            )
        )


def csv_parts(pages: Iterable[CreditPage]) -> Iterator[bytes]:
    """The parts of a CSV file (RFC 4180). No text is one that a spreadsheet takes for a formula."""
    text = io.StringIO(newline="")
    sheet = csv.writer(text)
    sheet.writerow(_SCHEMA.names)
    for page in pages:
        table = _table(page)
        sheet.writerows(zip(*map(_cells, table.columns), strict=True))
        if text.tell() >= PART_BYTES:
            yield text.getvalue().encode()
            text.seek(0)
            text.truncate()
    yield text.getvalue().encode()


def with_digest(parts: Iterable[bytes]) -> Iterator[tuple[bytes, str]]:
    """The parts, and with one more, which is empty, the SHA-256 of the whole."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
        yield part, ""
    yield b"", digest.hexdigest()


def _cells(column: pa.ChunkedArray) -> list[object]:
    if column.type == _TIME:
        column = column.cast(pa.string())
    cells: list[object] = column.to_pylist()
    if column.type != pa.string():
        return cells
    return [f"'{cell}" if str(cell).startswith(_FORMULA) else cell for cell in cells]


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
