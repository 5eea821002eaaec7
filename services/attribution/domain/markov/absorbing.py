"""Linear systems of absorbing chains, solved for many right sides at once, with a proven error.

X = Q X + rhs, where the rows of some cells of X are closed: there X = rhs. Which cells are closed
differs by column. Solved by sweeps over the layers of the chain and over blocks of its core
(Gauss-Seidel) in single precision, on the residual in double precision, again and again (iterative
refinement: Wilkinson 1963). Columns that sweeps do not settle, as walks are long or go round for
long, are solved by a sparse factorisation of a small core with few edges; of others by the
stabilised bi-conjugate gradient method (van der Vorst 1992), each with scalars of its own, and
those that this does not settle either by a sparse factorisation of the whole.

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
SMALL_CORE, THIN_EDGES = 4_096, 2
"""A core of at most so many states, and edges a state, is factorised for a column in no time."""
DENSE_EDGES = 6
"""With more edges a state, gradients take fewer products, and what else they do costs little."""
STEPS = 200
RESTARTS = 8


@dataclass(frozen=True, slots=True)
class Solution:
    """`values` (S, B) solve the systems; `errors` (B,) bound what the start sees of the error."""

    values: Floats
    errors: Floats


Rows = tuple[slice, sparse.csr_array]
"""A range of states, and the moves from them."""


@dataclass(frozen=True, slots=True)
class System:
    """The equations of a chain of S states, in the order of `layers`.

    `moves` and `visits` are in that order too. `before` and `after` are the layers around the core
    that lead anywhere; `inflow` are the moves from the core to the states before it, `core` those
    within it, and `blocks` the same in single precision, cut by rows.
    """

    layers: Layers
    moves: sparse.csr_array
    visits: Floats
    before: tuple[Rows, ...]
    inflow: sparse.csr_array
    core: sparse.csr_array
    blocks: tuple[Rows, ...]
    after: tuple[Rows, ...]

    @property
    def thin(self) -> bool:
        """Whether a factorisation of the core costs less than the steps of another method."""
        states = self.core.shape[0]
        return bool(states <= SMALL_CORE and self.core.nnz <= THIN_EDGES * states)

    @property
    def dense(self) -> bool:
        """Whether gradients do better than sweeps."""
        return bool(self.moves.nnz > DENSE_EDGES * len(self.visits))


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
    rows = ordered[layers.core]
    core = rows[:, layers.core]
    singles = core.astype(np.float32)
    return System(
        layers,
        ordered,
        visits[layers.order],
        # The first layer leads nowhere: what is right there is known.
        tuple((part, ordered[part]) for part in layers.before[1:]),
        rows[:, : layers.core.start],
        core,
        tuple((part, singles[part]) for part in _blocks(core.shape[0])),
        tuple((part, ordered[part]) for part in layers.after),
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
    found, moving = _swept(system, closed, rhs, (goal, ACCEPTED_ERROR * scale))
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


def _swept(
    system: System, closed: Integers, rhs: Floats, goals: tuple[Floats, Floats]
) -> tuple[Solution, Flags]:
    """Solve layer by layer; which columns could have come closer in the core. The goals are the
    error that is looked for, and the one that will do.
    """
    values, width = rhs.copy(), rhs.shape[1]
    if system.dense:
        # What is closed is known, and so no part of what the gradients look for.
        values = np.zeros_like(rhs)
        values.reshape(-1)[closed] = rhs.reshape(-1)[closed]
        return Solution(values, np.full(width, np.inf)), np.ones(width, dtype=np.bool_)

    def renew(layer: Rows) -> None:
        part, moves = layer
        values[part] += _open(moves @ values, _within(closed, part, width))

    for layer in system.before:
        renew(layer)
    core = system.layers.core
    shut = _within(closed, core, width)
    values[core] += _open(system.inflow @ values[: core.start], shut)
    values[core], moving = _core_solved(system, shut, values[core], goals)
    for layer in system.after:
        renew(layer)
    left = _open(system.moves @ values, closed)
    left += rhs
    left -= values
    return Solution(values, system.visits @ np.abs(left)), moving


def _core_solved(
    system: System, closed: Integers, rhs: Floats, goals: tuple[Floats, Floats]
) -> tuple[Floats, Flags]:
    """Solve the core by sweeps, and what they do not settle by factors where these are small; which
    columns could come closer.
    """
    goal, enough = goals
    values, errors, moving = _core_swept(system, closed, rhs, goal)
    unsettled = moving | (errors > enough)
    if unsettled.any() and system.thin:
        keep = np.ones(rhs.shape, dtype=np.bool_)
        keep.reshape(-1)[closed] = False
        for column in np.flatnonzero(unsettled).tolist():
            values[:, column] = _factorised(system.core, keep[:, column], rhs[:, column])
        moving = np.zeros_like(moving)
    return values, moving


def _core_swept(
    system: System, closed: Integers, rhs: Floats, goal: Floats
) -> tuple[Floats, Floats, Flags]:
    """Correct zero by sweeps until all is well or nothing helps; the bounds of the errors, and
    which columns could go on.
    """
    visits = system.visits[system.layers.core]
    values, residual = np.zeros_like(rhs), rhs
    errors = visits @ np.abs(rhs)
    moving = errors > goal
    done, sweeps = 0, FIRST_SWEEPS
    shut = [_within(closed, part, rhs.shape[1]) for part, _ in system.blocks]
    while moving.any() and done < ALL_SWEEPS:
        found = _correction(system, shut, residual, sweeps)
        found += values
        left = _open(system.core @ found, closed)
        left += rhs
        left -= found
        bound = visits @ np.abs(left)
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
    return values, errors, moving


def _sweeps_left(sweeps: int, before: Floats, after: Floats, goal: Floats) -> int:
    """How many more sweeps reach the goal at the pace of the last, as far as single reaches."""
    pace = min(np.log((after / before).max()) / sweeps, -np.finfo(np.float64).eps)
    left = max(float(np.log(goal / after).min()), np.log(SINGLE_REACH))
    return int(np.clip(np.ceil(left / pace), LEAST_SWEEPS, MOST_SWEEPS))


def _correction(
    system: System, closed: Sequence[Integers], residual: Floats, sweeps: int
) -> Floats:
    """About what is missing in the core, by some sweeps in single precision."""
    # Columns are brought to one size, as single precision reaches less far down.
    size = np.abs(residual).max(axis=0, initial=0.0)
    size = np.where(size > 0, size, 1.0)
    rhs = (residual / size).astype(np.float32)
    values = rhs.copy()
    for _ in range(sweeps):
        for (part, moves), shut in zip(system.blocks, closed, strict=True):
            np.add(_open(moves @ values, shut), rhs[part], out=values[part])
    return np.multiply(values, size, dtype=np.float64)


def _open(product: Floats, closed: Integers) -> Floats:
    """Leave nothing of a product in the closed cells, which are told by their place in it."""
    product.reshape(-1)[closed] = 0.0
    return product


def _within(closed: Integers, part: slice, width: int) -> Integers:
    """The closed cells of a range of rows, counted from its own first cell."""
    first = part.start * width
    begin, end = np.searchsorted(closed, [first, part.stop * width])
    found: Integers = closed[begin:end] - first
    return found


def _blocks(states: int) -> list[slice]:
    """Cut the core: a later block sees at once what an earlier one has found."""
    count = min(max(states // BLOCK_STATES, 1), MOST_BLOCKS)
    bounds = np.linspace(0, states, count + 1).astype(np.int64).tolist()
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
