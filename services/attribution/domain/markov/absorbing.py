"""Linear systems of absorbing chains, solved for many right sides at once, with a proven error.

X = keep * (Q X) + rhs, where `keep` closes states column by column. Solved by the stabilised
bi-conjugate gradient method (van der Vorst 1992), every column with scalars of its own; columns
that it does not settle are solved by a sparse factorisation.

The error is bounded by the residual r that is left: |start (X - X*)| <= sum of visits |r|, since
`visits` are the row of (I - Q)^-1 from the start, and closing states only makes it smaller.
"""

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.sparse import linalg

from services.attribution.domain.arrays import Flags, Floats

RELATIVE_ERROR = 1e-13
ACCEPTED_ERROR = 1e-9
STEPS = 200
RESTARTS = 8


@dataclass(frozen=True, slots=True)
class Solution:
    """`values` (S, B) solve the systems; `errors` (B,) bound what the start sees of the error."""

    values: Floats
    errors: Floats


def solve(
    moves: sparse.csr_array,
    keep: Flags,
    rhs: Floats,
    visits: Floats,
    relative_error: float = RELATIVE_ERROR,
) -> Solution:
    """Solve X = keep * (moves X) + rhs for X of shape (S, B); rhs is 0 where keep is False.

    Stops at `relative_error`, or where rounding lets it come no closer.
    """
    scale = visits @ np.abs(rhs)
    goal = relative_error * scale
    values = np.zeros_like(rhs)
    residual = rhs
    errors = scale
    for _ in range(RESTARTS):
        if (errors <= goal).all():
            break
        # A column that breaks down may overflow; its bound is then not better, and is not taken.
        with np.errstate(over="ignore", invalid="ignore"):
            found = values + _correction(moves, keep, residual, (visits, goal))
            left = rhs - _applied(moves, keep, found)
            bound = visits @ np.abs(left)
        better = bound < errors
        if not better.any():
            break
        values = np.where(better, found, values)
        residual = np.where(better, left, residual)
        errors = np.where(better, bound, errors)
    for column in np.flatnonzero(errors > ACCEPTED_ERROR * scale):
        values[:, column] = _factorised(moves, keep[:, column], rhs[:, column])
        left = rhs[:, column] - values[:, column]
        left = left + np.where(keep[:, column], moves @ values[:, column], 0.0)
        errors[column] = visits @ np.abs(left)
    return Solution(values, errors)


def _correction(
    moves: sparse.csr_array, keep: Flags, rhs: Floats, stop: tuple[Floats, Floats]
) -> Floats:
    """One run of the method from zero. The letters are those of van der Vorst (1992)."""
    visits, goal = stop
    x = np.zeros_like(rhs)
    r, shadow, p = rhs.copy(), rhs, rhs.copy()
    rho = _dot(shadow, r)
    for _ in range(STEPS):
        v = _applied(moves, keep, p)
        alpha = _ratio(rho, _dot(shadow, v))
        s = r - alpha * v
        t = _applied(moves, keep, s)
        omega = _ratio(_dot(t, s), _dot(t, t))
        x += alpha * p
        x += omega * s
        r = s - omega * t
        if (visits @ np.abs(r) <= goal).all():
            break
        previous, rho = rho, _dot(shadow, r)
        beta = _ratio(rho, previous) * _ratio(alpha, omega)
        p = r + beta * (p - omega * v)
    return x


def _applied(moves: sparse.csr_array, keep: Flags, values: Floats) -> Floats:
    """Return values - keep * (moves values), in place of the product."""
    product: Floats = moves @ values
    product *= keep
    return np.subtract(values, product, out=product)


def _factorised(moves: sparse.csr_array, keep: Flags, rhs: Floats) -> Floats:
    edges = moves.tocoo()
    rows, columns = edges.coords
    kept = keep[rows]
    every = np.arange(len(rhs))
    system = sparse.csc_array(
        (
            np.concatenate([np.ones(len(rhs)), -edges.data[kept]]),
            (np.concatenate([every, rows[kept]]), np.concatenate([every, columns[kept]])),
        ),
        shape=moves.shape,
    )
    solved: Floats = linalg.splu(system).solve(rhs)
    return solved


def _dot(left: Floats, right: Floats) -> Floats:
    product: Floats = np.einsum("sb,sb->b", left, right)
    return product


def _ratio(numerator: Floats, denominator: Floats) -> Floats:
    """Divide where it can be; a column that is done, or broke down, takes no further step."""
    safe = np.abs(denominator) > np.finfo(np.float64).tiny
    return np.where(safe, numerator / np.where(safe, denominator, 1.0), 0.0)
