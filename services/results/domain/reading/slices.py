"""The effects in parts of the population: read one by one, tested for being equal, shrunken."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from touchstone_statistics.contrast import Contrast
from touchstone_statistics.family import Correction, Method, correct
from touchstone_statistics.gaps import FloatArray
from touchstone_statistics.heterogeneity import (
    Effects,
    Heterogeneity,
    Shrunken,
    heterogeneity,
    shrink,
)
from touchstone_statistics.inference import Reading

from services.results.domain.observation import Slice
from services.results.domain.reading.rules import Rule
from services.results.domain.reading.together import Asking, ToRead


@dataclass(frozen=True, slots=True, eq=False)
class Dimension:
    """The slices of one dimension. Arrays of `shrunken` have the axes treatments, slices; those
    of `equal` have one axis of treatments.
    """

    name: str
    places: tuple[int, ...]
    equal: Heterogeneity
    adjusted_p: FloatArray
    shrunken: Shrunken


@dataclass(frozen=True, slots=True, eq=False)
class Sliced:
    """All slices but the first, which is all units; contrast and reading have the axes slices,
    treatments.
    """

    contrast: Contrast
    reading: Reading
    dimensions: tuple[Dimension, ...]


def read_slices(
    rule: Rule, alpha: float, contrast: Contrast, slices: Sequence[Slice]
) -> Asking[Sliced | None]:
    """Every slice by a rule that holds at every look; None where there is none.

    `contrast` has the axes slices, treatments. The tests of equal effects are corrected over
    dimensions and treatments by Benjamini and Hochberg (1995).
    """
    if len(slices) < 2:
        return None
    shape = contrast.difference.shape
    parts = replace(
        contrast,
        control=contrast.control[1:],
        treatment=contrast.treatment[1:],
        covariance=np.broadcast_to(contrast.covariance, shape)[1:],
        freedom=None if contrast.freedom is None else np.broadcast_to(contrast.freedom, shape)[1:],
    )
    names = list(dict.fromkeys(one.dimension for one in slices[1:]))
    found = [_dimension(name, slices[1:], parts, alpha) for name in names]
    p_values = np.concatenate([one.equal.p_value for one in found])
    gaps = np.concatenate([one.equal.gap for one in found])
    corrected = correct(p_values, gaps, Correction(Method.BENJAMINI_HOCHBERG, alpha))
    split = np.split(corrected.p_value, len(found))
    reading = yield ToRead(rule, parts, (), alpha)
    return Sliced(
        contrast=parts,
        reading=reading,
        dimensions=tuple(replace(one, adjusted_p=p) for one, p in zip(found, split, strict=True)),
    )


def _dimension(name: str, slices: Sequence[Slice], parts: Contrast, alpha: float) -> Dimension:
    places = tuple(index for index, one in enumerate(slices) if one.dimension == name)
    at = list(places)
    effects = Effects(parts.difference[at].T, parts.variance[at].T, parts.spread_gap[at].T)
    equal = heterogeneity(effects)
    return Dimension(name, places, equal, equal.p_value, shrink(effects, alpha))
