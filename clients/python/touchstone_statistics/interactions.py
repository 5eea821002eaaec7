"""Experiments that run at the same time: do they change each other's effect, or each other's units?

Units are counted in the cells of a table with one axis for each experiment and one place on it
for each of its variants.
"""

from dataclasses import dataclass

import numpy as np
from scipy import special

from touchstone_statistics.estimand import Estimate
from touchstone_statistics.gaps import FloatArray, Gap, GapArray

DEPENDENT_BELOW = 0.01


@dataclass(frozen=True, slots=True, eq=False)
class JointInteraction:
    """Test that the effects of several experiments simply add up; arrays have the batch shape.

    `residual` has the shape of the cells: how far the mean of each lies from what the sum of
    the effects predicts. `gap` is NOT_APPLICABLE where cells are too few to tell.
    """

    statistic: FloatArray
    dof: FloatArray
    p_value: FloatArray
    residual: FloatArray
    gap: GapArray


def joint_interaction(cells: Estimate, experiments: int = 2) -> JointInteraction:
    """Wald test of all interactions between concurrent experiments.

    The last `experiments` axes of `cells` are their variants; any batch stands in front. The
    statistic is the weighted sum of squares of the cell means around the additive model, fitted
    by least squares with weights one over the variance; it equals Wald's (1943) for all
    interaction contrasts and is chi-squared with as many degrees of freedom as there are of
    them. With two experiments of two variants it is the square of z for (TT - TC) - (CT - CC),
    of which `contrast.interaction` gives size and interval. Cells without units or variance are
    left out. Assumes nearly normal means; unlike F it takes the variances as known.
    """
    shape = cells.value.shape[len(cells.value.shape) - experiments :]
    if experiments < 2 or any(size < 2 for size in shape):
        raise ValueError(
            f"the cells of {experiments} experiments have shape {shape}; there must be at least "
            "two experiments and two variants of each"
        )
    batch = cells.value.shape[: cells.value.ndim - experiments]
    flat = (*batch, -1)
    known = ((cells.spread_gap == Gap.NONE) & (cells.variance > 0)).reshape(flat)
    value = np.where(known, cells.value.reshape(flat), 0.0)
    variance = np.where(known, cells.variance.reshape(flat), 1.0)
    root = np.where(known, 1.0 / np.sqrt(variance), 0.0)
    # A common origin keeps the digits of small effects on large means.
    origin = (known * value).sum(axis=-1, keepdims=True) / np.maximum(
        known.sum(axis=-1, keepdims=True), 1
    )
    design = _additive(shape) * root[..., None]
    target = (value - origin) * root
    fit = (np.linalg.pinv(design, rcond=1e-9) @ target[..., None])[..., 0]
    residual = np.where(known, value - origin - fit @ _additive(shape).T, 0.0)
    rank = np.linalg.matrix_rank(design, rtol=1e-9)
    dof = np.asarray(known.sum(axis=-1) - rank, dtype=np.float64)
    statistic = ((residual * root) ** 2).sum(axis=-1)
    return JointInteraction(
        statistic=statistic,
        dof=dof,
        p_value=np.asarray(special.chdtrc(np.maximum(dof, 1.0), statistic)),
        residual=residual.reshape(cells.value.shape),
        gap=np.where(dof < 1, Gap.NOT_APPLICABLE, Gap.NONE).astype(np.uint8),
    )


def _additive(shape: tuple[int, ...]) -> FloatArray:
    """One row a cell: a constant and an indicator of each variant but the first."""
    places = np.indices(shape).reshape(len(shape), -1)
    columns = [np.ones(places.shape[1])]
    for place, size in zip(places, shape, strict=True):
        columns += [(place == variant).astype(np.float64) for variant in range(1, size)]
    return np.column_stack(columns)


@dataclass(frozen=True, slots=True)
class Dependence:
    """Whether the variant of one experiment foretells that of another."""

    statistic: float
    dof: int
    p_value: float
    gap: Gap

    @property
    def alert(self) -> bool:
        """True when the assignments are not independent, so that effects are mixed up."""
        return self.gap is Gap.NONE and self.p_value < DEPENDENT_BELOW


def assignment_dependence(units: FloatArray) -> Dependence:
    """Test that two experiments assign independently of each other.

    `units` counts units by the variants of one experiment (rows) and the other (columns),
    among those exposed to both. Source: Pearson's (1900) chi-squared test of independence, with
    the degrees of freedom of Fisher (1922). Rows and columns without units do not count.
    """
    if units.ndim != 2:
        raise ValueError(f"units has {units.ndim} axes; it must be a table of two")
    rows, columns = units.sum(axis=1), units.sum(axis=0)
    total = float(units.sum())
    dof = (int((rows > 0).sum()) - 1) * (int((columns > 0).sum()) - 1)
    if total == 0 or dof < 1:
        return Dependence(0.0, 0, 1.0, Gap.NO_UNITS if total == 0 else Gap.NOT_APPLICABLE)
    table = units[rows > 0][:, columns > 0]
    expected = np.outer(rows[rows > 0], columns[columns > 0]) / total
    statistic = float(((table - expected) ** 2 / expected).sum())
    return Dependence(statistic, dof, float(special.chdtrc(dof, statistic)), Gap.NONE)
