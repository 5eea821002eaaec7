"""Which columns of a covariance matrix carry information of their own."""

import numpy as np

from touchstone_statistics.gaps import BoolArray, FloatArray

# A column is redundant when the others leave less than this share of its variance: what is left
# is then known to fewer than six digits.
TOLERANCE = 1e-10


def independent(covariance: FloatArray, noise: FloatArray) -> BoolArray:
    """Columns to keep (..., p) of covariance matrices (..., p, p), by pivoted elimination.

    A column whose standard deviation is at most `noise` (..., p) is constant. Of the others the
    one with the largest share of variance left is taken, the first of equals, and its part
    removed from the rest, until nothing above `TOLERANCE` is left.

    Source: Higham (1990), "Analysis of the Cholesky decomposition of a semi-definite matrix",
    section 10.3 of "Reliable numerical computation": rank by complete pivoting.
    """
    count = covariance.shape[-1]
    variance = np.einsum("...pp->...p", covariance)
    varies = np.sqrt(np.maximum(variance, 0.0)) > noise
    size = np.sqrt(np.where(varies, variance, 1.0))
    left = covariance / (size[..., :, None] * size[..., None, :])
    open_ = varies.copy()
    for _ in range(count):
        shares = np.where(open_, np.einsum("...pp->...p", left), -1.0)
        pivot = np.argmax(shares, axis=-1)[..., None]
        share = np.take_along_axis(shares, pivot, axis=-1)
        taken = (share > TOLERANCE) & (np.arange(count) == pivot)
        open_ &= ~taken
        column = np.take_along_axis(left, pivot[..., None], axis=-1)[..., 0]
        factor = np.where(share > TOLERANCE, share, np.inf)
        left = left - column[..., :, None] * (column / factor)[..., None, :]
    return np.asarray(varies & ~open_)
