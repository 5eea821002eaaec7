"""Linear systems of absorbing chains, solved for many right sides at once, with a proven error.

X = Q X + rhs, where the rows of some cells of X are closed: there X = rhs. Which cells are closed
differs by column. Solved by sweeps over the layers of the chain and over blocks of its core
(Gauss-Seidel) in single precision, on the residual in double precision, again and again (iterative
refinement: Wilkinson 1963). Columns that sweeps do not settle, as walks go round for long, are
solved by the stabilised bi-conjugate gradient method (van der Vorst 1992), each with scalars of its
own, and those that this does not settle either by a sparse factorisation.

The error is bounded by the residual r that is left, however it was found: |start (X - X*)| <= sum
of visits |r|, since `visits` are the row of (I - Q)^-1 from the start, and closing only makes it
smaller.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy import sparse
from scipy.sparse import linalg

from services.attribution.domain.arrays import Flags, Floats, Integers
from services.attribution.domain.markov.layers import Layers, find_layers

RELATIVE_ERROR = 1e-13
ACCEPTED_ERROR = 1e-9
FIRST_SWEEPS, LEAST_SWEEPS, MOST_SWEEPS, ALL_SWEEPS = 10, 2, 60, 600
"""Sweeps before the residual is looked at: at first, at least and at most, and in all."""
SINGLE_REACH = 1e-6
"""By how much a correction in single precision can make the residual smaller."""
BLOCK_STATES, MOST_BLOCKS = 4_096, 8
DENSE_EDGES = 6
"""With more edges a state, gradients take fewer products, and what else they do costs little."""
STEPS = 200
RESTARTS = 8


@dataclass(frozen=True, slots=True)
class Solution:
    """`values` (S, B) solve the systems; `errors` (B,) bound what the start sees of the error."""

    values: Floats
    errors: Floats


@dataclass(frozen=True, slots=True)
class System:
    """The equations of a chain of S states, in the order of `layers`.

    `moves` and `visits` are in that order too. `parts` are the ranges that a correction goes over,
    with their rows of `moves` in single precision; those from `core_begin` to `core_end` again and
    again.
    """

    layers: Layers
    moves: sparse.csr_array
    visits: Floats
    parts: tuple[tuple[slice, sparse.csr_array], ...]
    core_begin: int
    core_end: int
    dense: bool


def system_of(moves: sparse.csr_array, visits: Floats) -> System:
    """Bring the equations of a chain into the order of their solution."""
    layers = find_layers(moves)
    ordered = moves[layers.order][:, layers.order]
    # What fits 32 bits is half of the traffic.
    small = np.int32 if max(ordered.nnz, len(visits)) < np.iinfo(np.int32).max else np.int64
    ordered = sparse.csr_array(
        (ordered.data, ordered.indices.astype(small), ordered.indptr.astype(small)),
        shape=ordered.shape,
    )
    core = _blocks(layers.core)
    singles = ordered.astype(np.float32)
    return System(
        layers,
        ordered,
        visits[layers.order],
        # The first layer leads nowhere: what is right there is known.
        tuple((part, singles[part]) for part in (*layers.before[1:], *core, *layers.after)),
        len(layers.before) - 1,
        len(layers.before) - 1 + len(core),
        ordered.nnz > DENSE_EDGES * len(visits),
    )


def solve_all(system: System, rhs: Floats, relative_error: float = RELATIVE_ERROR) -> Solution:
    """Solve X = Q X + rhs, nothing closed, with states numbered as they were before."""
    order = system.layers.order
    found = solve(system, np.zeros(0, dtype=np.int64), rhs[order], relative_error)
    values = np.empty_like(found.values)
    values[order] = found.values
    return Solution(values, found.errors)


def solve(
    system: System, closed: Integers, rhs: Floats, relative_error: float = RELATIVE_ERROR
) -> Solution:
    """Solve X = Q X + rhs for X of shape (S, B), states in the order of the system.

    `closed` are the cells of X, ascending, by their place in it row by row. Stops at
    `relative_error`, or where rounding lets it come no closer.
    """
    scale = system.visits @ np.abs(rhs)
    goal = relative_error * scale
    found, moving = _swept(system, closed, rhs, goal)
    open_ = (found.errors > ACCEPTED_ERROR * scale) | moving
    if not open_.any():
        return found
    values, errors = found.values, found.errors
    columns = np.flatnonzero(open_)
    keep = np.ones(rhs.shape, dtype=np.bool_)
    keep.reshape(-1)[closed] = False
    keep = keep[:, columns]
    better = _by_gradients(system, keep, rhs[:, columns], found.values[:, columns], goal[columns])
    values[:, columns], errors[columns] = better.values, better.errors
    for place, column in enumerate(columns.tolist()):
        if errors[column] > ACCEPTED_ERROR * scale[column]:
            values[:, column] = _factorised(system.moves, keep[:, place], rhs[:, column])
            left = rhs[:, column] - values[:, column]
            left += np.where(keep[:, place], system.moves @ values[:, column], 0.0)
            errors[column] = system.visits @ np.abs(left)
    return Solution(values, errors)


def _swept(system: System, closed: Integers, rhs: Floats, goal: Floats) -> tuple[Solution, Flags]:
    """Correct zero by sweeps until all is well or nothing helps; which columns could go on."""
    values, residual = np.zeros_like(rhs), rhs
    errors = system.visits @ np.abs(rhs)
    moving = errors > goal
    if system.dense:
        # What is closed is known, and so no part of what the gradients look for.
        values.reshape(-1)[closed] = rhs.reshape(-1)[closed]
        return Solution(values, errors), moving
    done, sweeps = 0, FIRST_SWEEPS
    closed_of = _closed_of(system, closed, rhs.shape[1])
    while moving.any() and done < ALL_SWEEPS:
        found = _correction(system, closed_of, residual, sweeps)
        found += values
        left = system.moves @ found
        left.reshape(-1)[closed] = 0.0
        left += rhs
        left -= found
        bound = system.visits @ np.abs(left)
        better = bound < errors
        if better.all():
            values, residual = found, left
        else:
            values = np.where(better, found, values)
            residual = np.where(better, left, residual)
        before, errors = errors, np.where(better, bound, errors)
        moving = better & (errors > goal)
        done += sweeps
        if moving.any():
            sweeps = _sweeps_left(sweeps, before[moving], errors[moving], goal[moving])
    return Solution(values, errors), moving


def _sweeps_left(sweeps: int, before: Floats, after: Floats, goal: Floats) -> int:
    """How many more sweeps reach the goal at the pace of the last, as far as single reaches."""
    pace = min(np.log((after / before).max()) / sweeps, -np.finfo(np.float64).eps)
    left = max(float(np.log(goal / after).min()), np.log(SINGLE_REACH))
    return int(np.clip(np.ceil(left / pace), LEAST_SWEEPS, MOST_SWEEPS))


def _correction(
    system: System, closed_of: Sequence[Integers], residual: Floats, sweeps: int
) -> Floats:
    """About what is missing, by some sweeps over the core, and one product for other layers."""
    # Columns are brought to one size, as single precision reaches less far down.
    size = np.abs(residual).max(axis=0)
    size = np.where(size > 0, size, 1.0)
    rhs = (residual / size).astype(np.float32)
    values = rhs.copy()

    def renew(number: int) -> None:
        part, moves = system.parts[number]
        product = moves @ values
        product.reshape(-1)[closed_of[number]] = 0.0
        np.add(product, rhs[part], out=values[part])

    for number in range(system.core_begin):
        renew(number)
    if system.layers.core.stop > system.layers.core.start:
        for _ in range(sweeps):
            for number in range(system.core_begin, system.core_end):
                renew(number)
    for number in range(system.core_end, len(system.parts)):
        renew(number)
    return np.multiply(values, size, dtype=np.float64)


def _closed_of(system: System, closed: Integers, columns: int) -> list[Integers]:
    """The closed cells of each part, counted from its own first cell."""
    found = []
    for part, _ in system.parts:
        first = part.start * columns
        begin, end = np.searchsorted(closed, [first, part.stop * columns])
        found.append(closed[begin:end] - first)
    return found


def _blocks(core: slice) -> list[slice]:
    """Cut the core: a later block sees at once what an earlier one has found."""
    size = core.stop - core.start
    count = min(max(size // BLOCK_STATES, 1), MOST_BLOCKS)
    bounds = np.linspace(core.start, core.stop, count + 1).astype(np.int64).tolist()
    return [slice(begin, end) for begin, end in pairwise(bounds)]


def _by_gradients(
    system: System, keep: Flags, rhs: Floats, values: Floats, goal: Floats
) -> Solution:
    """Correct `values` by the bi-conjugate gradients, begun anew where rounding stops them."""
    residual = rhs - _applied(system.moves, keep, values)
    errors = system.visits @ np.abs(residual)
    for _ in range(RESTARTS):
        if (errors <= goal).all():
            break
        # A column that breaks down may overflow; its bound is then not better, and is not taken.
        with np.errstate(over="ignore", invalid="ignore"):
            found = values + _gradients(system.moves, keep, residual, (system.visits, goal))
            left = rhs - _applied(system.moves, keep, found)
            bound = system.visits @ np.abs(left)
        better = bound < errors
        if not better.any():
            break
        values = np.where(better, found, values)
        residual = np.where(better, left, residual)
        errors = np.where(better, bound, errors)
    return Solution(values, errors)


def _gradients(
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
