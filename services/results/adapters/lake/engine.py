"""What the engine names in its own way, and how answers come out of it."""

import hashlib
from typing import Any

import ibis
import pyarrow as pa
from ibis import ir
from ibis.backends.sql.datatypes import DuckDBType
from ibis.expr import operations as ops

from shared.lake.texts import answer_of, text_of

BATCH_ROWS = 100_000
MICROSECONDS_PER_DAY = 86_400_000_000


@ibis.udf.scalar.builtin(signature=(("timestamp('UTC')",), "int64"))  # type: ignore[untyped-decorator]
def epoch_us(time: ir.TimestampValue) -> ir.IntegerValue:
    """Microseconds since 1970 UTC. Whole numbers are compared many times as fast as instants."""


@ibis.udf.scalar.builtin(signature=(("string",), "int64"))  # type: ignore[untyped-decorator]
def getvariable(variable: ir.StringValue) -> ir.IntegerValue:
    """A number that the connection was told: a query that names it serves for any value."""


def rows_of(expression: ir.Table) -> list[dict[str, Any]]:
    """The rows of a small answer."""
    return answer_of(expression).to_pylist()  # type: ignore[no-any-return]


def row_of(expression: ir.Table) -> dict[str, Any]:
    """The only row of an answer."""
    (row,) = rows_of(expression)
    return row


def stored(name: str, expression: ir.Table) -> ir.Table:
    """Computed once for several questions; it goes when the connection is closed. Its name follows
    from its query, so that texts which name it serve other connections, too.
    """
    engine, query = expression.get_backend(), text_of(expression)
    if query is None:
        return engine.create_table(ibis.util.gen_name(name), expression, temp=True)
    unique = f"{name}_{hashlib.sha256(query.encode()).hexdigest()[:32]}"
    # What `create_table` does, without copies of the parsed query, which cost as much as all else.
    schema = expression.schema()
    columns = ", ".join(f'"{column}" {DuckDBType.to_string(of)}' for column, of in schema.items())
    engine.con.execute(f"CREATE OR REPLACE TEMP TABLE {unique} ({columns})")
    engine.con.execute(f"INSERT INTO {unique} {query}")
    return ops.DatabaseTable(unique, schema=schema, source=engine).to_expr()


def batches_of(expression: ir.Table) -> pa.RecordBatchReader:
    """The rows of a large answer, as they are computed."""
    engine = expression.get_backend()
    view = engine.create_view(ibis.util.gen_name("batches"), expression)
    return engine.con.sql(engine.compile(view)).to_arrow_reader(BATCH_ROWS)
