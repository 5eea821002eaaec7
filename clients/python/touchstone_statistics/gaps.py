"""Why a number is not known: the typed alternative to NaN and to a made-up zero."""

import enum
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
GapArray = NDArray[np.uint8]
BoolArray = NDArray[np.bool_]


class Gap(enum.IntEnum):
    """Reason that a quantity is missing; NONE says that it is known.

    Arrays of results carry an array of these codes of the same shape. Where the code is not
    NONE the number beside it has no meaning and must not be shown.
    """

    NONE = 0
    NO_UNITS = 1
    ONE_UNIT = 2
    ZERO_VARIANCE = 3
    ZERO_CONTROL_MEAN = 4
    NOT_APPLICABLE = 5
    ZERO_DENOMINATOR = 6
    TOO_FEW_UNITS = 7
    TOO_FEW_CLUSTERS = 8


@dataclass(frozen=True, slots=True)
class NotEstimable:
    """A quantity that the data cannot answer, with the reason."""

    gap: Gap


def at(values: FloatArray, gaps: GapArray, index: tuple[int, ...] = ()) -> float | NotEstimable:
    """One element of an array of results: the number, or why there is none."""
    gap = Gap(int(gaps[index]))
    return NotEstimable(gap) if gap is not Gap.NONE else float(values[index])


def quotient(above: FloatArray, below: FloatArray, otherwise: FloatArray | float) -> FloatArray:
    """`above / below`, and `otherwise` where `below` is zero."""
    zero = below == 0
    return np.where(zero, otherwise, above / np.where(zero, 1.0, below))


def first_gap(*gaps: GapArray) -> GapArray:
    """Element by element the first gap that is not NONE, in the order given."""
    shape = np.broadcast_shapes(*(gap.shape for gap in gaps))
    if not any(gap.any() for gap in gaps):
        return np.zeros(shape, dtype=np.uint8)
    found = np.zeros(shape, dtype=np.uint8)
    for gap in gaps:
        found = np.where(found == 0, gap, found)
    return found
