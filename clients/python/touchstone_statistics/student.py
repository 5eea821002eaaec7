"""Quantiles of Student's t, many at once."""

import numpy as np
from scipy import special

from touchstone_statistics.gaps import FloatArray

MANY = 10_000.0
"""Degrees of freedom from which on the series is used, for quantiles up to `FARTHEST`: the first
term that it leaves out is then below 1e-14 of the quantile."""
FARTHEST = 6.0


def upper_quantile(dof: FloatArray, tail: FloatArray | float) -> FloatArray:
    """The value above which a t variable lies with probability `tail`.

    With many degrees of freedom by Fisher's expansion about the normal quantile to the fourth order
    (Abramowitz and Stegun 1964, 26.7.5), else by inverting the distribution function.
    """
    dof, tail = np.broadcast_arrays(np.asarray(dof, np.float64), np.asarray(tail, np.float64))
    z = -special.ndtri(tail)
    near = (dof >= MANY) & (np.abs(z) <= FARTHEST)
    found = np.empty(dof.shape)
    found[near] = _expanded(z[near], 1.0 / dof[near])
    found[~near] = -special.stdtrit(dof[~near], tail[~near])
    return found


def _expanded(z: FloatArray, u: FloatArray) -> FloatArray:
    """`z` is the normal quantile, `u` one over the degrees of freedom."""
    s = z * z
    first = z * (s + 1.0) / 4.0
    second = z * ((5.0 * s + 16.0) * s + 3.0) / 96.0
    third = z * (((3.0 * s + 19.0) * s + 17.0) * s - 15.0) / 384.0
    fourth = z * ((((79.0 * s + 776.0) * s + 1482.0) * s - 1920.0) * s - 945.0) / 92_160.0
    return np.asarray(z + u * (first + u * (second + u * (third + u * fourth))))
