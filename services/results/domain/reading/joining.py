"""Readings of single comparisons, and how they become one again."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from touchstone_statistics.contrast import Contrast
from touchstone_statistics.estimand import Estimate
from touchstone_statistics.gaps import FloatArray, GapArray
from touchstone_statistics.inference import Reading
from touchstone_statistics.interval import Interval

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    from services.results.domain.reading.rules import Rule


def by_kind(
    contrast: Contrast, kinds: Sequence[float], read: Callable[[Contrast, list[int]], Reading]
) -> Reading:
    """Read the treatments of each kind together, of a contrast with one axis, and join the readings
    in the order of the contrast.
    """
    found: dict[int, Reading] = {}
    for kind in dict.fromkeys(kinds):
        places = [place for place, own in enumerate(kinds) if own == kind]
        parts = pieces(read(rows_of(contrast, places), places), [1] * len(places))
        found |= zip(places, parts, strict=True)
    return joined([found[place] for place in range(len(kinds))])


def rows_of(contrast: Contrast, places: list[int]) -> Contrast:
    """Some treatments alone; the control may have an axis of one."""
    control = contrast.control if contrast.control.value.size == 1 else contrast.control[places]
    shape = contrast.difference.shape

    def rows(values: FloatArray | float) -> FloatArray:
        return np.asarray(np.broadcast_to(values, shape)[places])

    return replace(
        contrast,
        control=control,
        treatment=contrast.treatment[places],
        null_lift=rows(contrast.null_lift),
        covariance=rows(contrast.covariance),
        freedom=None if contrast.freedom is None else rows(contrast.freedom),
    )


def concatenated(contrasts: Sequence[Contrast]) -> Contrast:
    """Contrasts of one shape but for the first axis, one behind the other along it. All or none
    have degrees of freedom of their own.
    """
    if len(contrasts) == 1:
        return contrasts[0]

    def along(parts: Sequence[FloatArray | GapArray | float]) -> FloatArray:
        shapes = [one.difference.shape for one in contrasts]
        laid = (np.broadcast_to(part, shape) for part, shape in zip(parts, shapes, strict=True))
        return np.concatenate(list(laid))

    def arm(of: Callable[[Contrast], Estimate]) -> Estimate:
        arms = [of(one) for one in contrasts]
        own = any(one.freedom is not None for one in arms)
        return Estimate(
            value=along([one.value for one in arms]),
            variance=along([one.variance for one in arms]),
            units=along([one.units for one in arms]),
            gap=along([one.gap for one in arms]).astype(np.uint8),
            spread_gap=along([one.spread_gap for one in arms]).astype(np.uint8),
            freedom=along([one.dof for one in arms]) if own else None,
        )

    freedom = [one.freedom for one in contrasts if one.freedom is not None]
    return Contrast(
        arm(lambda one: one.control),
        arm(lambda one: one.treatment),
        null_lift=along([one.null_lift for one in contrasts]),
        covariance=along([one.covariance for one in contrasts]),
        freedom=along(freedom) if freedom else None,
    )


def repeated(rule: "Rule", times: int) -> "Rule":
    """A rule for the treatments of so many metrics, one behind the other."""
    return replace(rule, shares=rule.shares * times)


P = TypeVar("P", bound="DataclassInstance")


def pieces(whole: P, sizes: Sequence[int]) -> list[P]:
    """What a calculation gave for several contrasts one behind the other, for each of them: its
    arrays are cut along their first axis, and so are those of its parts.
    """
    ends = list(itertools.accumulate(sizes))
    cuts = [slice(end - size, end) for size, end in zip(sizes, ends, strict=True)]
    names = [field.name for field in fields(whole)]
    values = {name: getattr(whole, name) for name in names}
    cut_up = {name: _cut(value, sizes, cuts) for name, value in values.items()}
    return [type(whole)(**{name: cut_up[name][n] for name in names}) for n in range(len(sizes))]


def _cut(value: Any, sizes: Sequence[int], cuts: Sequence[slice]) -> list[Any]:
    if isinstance(value, Interval):
        return pieces(value, sizes)
    if isinstance(value, np.ndarray):
        return [value[cut] for cut in cuts]
    return [value] * len(cuts)


def joined(parts: Sequence[Reading]) -> Reading:
    """Readings of one axis, one behind the other."""
    critical = [part.critical for part in parts if part.critical is not None]
    log_e = [part.log_e for part in parts if part.log_e is not None]
    return Reading(
        statistic=np.concatenate([part.statistic for part in parts]),
        dof=np.concatenate([part.dof for part in parts]),
        p_value=np.concatenate([part.p_value for part in parts]),
        difference=_intervals([part.difference for part in parts]),
        lift=_intervals([part.lift for part in parts]),
        gap=np.concatenate([part.gap for part in parts]),
        lift_gap=np.concatenate([part.lift_gap for part in parts]),
        critical=np.concatenate(critical) if len(critical) == len(parts) else None,
        log_e=np.concatenate(log_e) if len(log_e) == len(parts) else None,
    )


def _intervals(parts: Sequence[Interval]) -> Interval:
    return Interval(
        np.concatenate([part.low for part in parts]),
        np.concatenate([part.high for part in parts]),
        np.concatenate([part.shape for part in parts]),
    )
