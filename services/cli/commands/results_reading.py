"""A comparison as cells: the difference, the lift, and the p-value, as one method reads them."""

from __future__ import annotations

from touchstone.results.v1 import results_pb2 as pb

from services.cli.figures import ends, estimate, p_value, percent, plain
from services.cli.rendering import Cell, Column

READ = (
    Column("difference", right=True),
    Column("difference_low", right=True),
    Column("difference_high", right=True),
    Column("lift", percent, right=True),
    Column("lift_low", percent, right=True),
    Column("lift_high", percent, right=True),
    Column("p_value", p_value, right=True),
)


def reading(read: pb.MethodReading | pb.Comparison | None) -> tuple[Cell, ...]:
    """The cells of `READ`; nothing in them where there is no comparison."""
    if read is None:
        return (None,) * len(READ)
    return (
        estimate(read.difference),
        *ends(read.difference_interval, plain),
        estimate(read.lift),
        *ends(read.lift_interval, percent),
        estimate(read.p_value),
    )
