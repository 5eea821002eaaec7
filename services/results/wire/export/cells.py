"""Cells of the table: text, numbers, intervals, and what every reading has."""

from touchstone.results.v1 import results_pb2 as pb

from services.results.wire.export.words import enum_word, estimate_or_reason

_FORMULA = ("=", "+", "-", "@", "\t", "\r")

Row = dict[str, str]


def text(value: str) -> str:
    """Text that no spreadsheet takes for a formula."""
    return f"'{value}" if value.startswith(_FORMULA) else value


def number(estimate: pb.Estimate) -> str:
    """The number with all its digits, or nothing where there is none."""
    return repr(estimate.value) if estimate.WhichOneof("result") == "value" else ""


def units_row(treatment: int, control: int) -> Row:
    """How many units both arms have."""
    return {"units": str(treatment), "control_units": str(control)}


def read_row(name: str, read: pb.MethodReading) -> Row:
    """What a method says of a comparison."""
    return {"reading": name, "method": enum_word(read, "method")} | shown_row(read)


def shown_row(read: pb.Comparison | pb.MethodReading) -> Row:
    """What every reading has."""
    return {
        "difference": number(read.difference),
        "difference_low": end(read.difference_interval, low=True),
        "difference_high": end(read.difference_interval, low=False),
        "lift": number(read.lift),
        "lift_low": end(read.lift_interval, low=True),
        "lift_high": end(read.lift_interval, low=False),
        "lift_shape": shape(read.lift_interval),
        "level": repr(read.lift_interval.level),
        "p_value": number(read.p_value),
        "not_estimable": "" if number(read.p_value) else estimate_or_reason(read.p_value),
    }


def missing(interval: pb.Interval) -> bool:
    """Whether there is no interval at all, for the reason that it names."""
    open_end = interval.low_unbounded or interval.high_unbounded
    return bool(interval.not_estimable) and not open_end and not interval.complement


def shape(interval: pb.Interval) -> str:
    """`inside` for what lies between the ends, `outside` for all else, nothing for none."""
    if missing(interval):
        return ""
    return "outside" if interval.complement else "inside"


def end(interval: pb.Interval, *, low: bool) -> str:
    """One end of an interval; infinite where it is open, nothing where there is no interval."""
    if interval.low_unbounded if low else interval.high_unbounded:
        return "-inf" if low else "inf"
    if missing(interval):
        return ""
    return repr(interval.low if low else interval.high)
