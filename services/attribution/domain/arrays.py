"""The array types that the attribution domain passes around."""

import numpy as np
from numpy.typing import NDArray

Codes = NDArray[np.int32]
"""Channel codes: positions in a sorted tuple of channel names."""

Integers = NDArray[np.int64]
"""Counts, row numbers, or times in microseconds since 1970-01-01 UTC."""

Floats = NDArray[np.float64]

Flags = NDArray[np.bool_]


def frozen_integers(values: object) -> Integers:
    """Return `values` as a read-only int64 array, copied only when it has to be."""
    array = np.asarray(values, dtype=np.int64).view()
    array.flags.writeable = False
    return array


def frozen_floats(values: object) -> Floats:
    """Return `values` as a read-only float64 array, copied only when it has to be."""
    array = np.asarray(values, dtype=np.float64).view()
    array.flags.writeable = False
    return array


def frozen_codes(values: object) -> Codes:
    """Return `values` as a read-only int32 array, copied only when it has to be."""
    array = np.asarray(values, dtype=np.int32).view()
    array.flags.writeable = False
    return array


def distinct(numbers: Integers) -> Integers:
    """Return the distinct numbers, ascending; most of them are, so a sort beats a hash table."""
    ordered = np.sort(numbers)
    first = np.ones(len(ordered), dtype=np.bool_)
    np.not_equal(ordered[1:], ordered[:-1], out=first[1:])
    found: Integers = ordered[first]
    return found
