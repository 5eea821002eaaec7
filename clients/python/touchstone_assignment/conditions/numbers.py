"""Numbers are doubles, as they are in JSON; a truth value is none."""


def read_number(value: object) -> float | None:
    """The number, or None when this is none or an integer beyond the doubles.

    An integer is the double nearest to it, so that it decides alike in process and over the wire.
    """
    if isinstance(value, float):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            return None
    return None
