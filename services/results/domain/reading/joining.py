"""Readings of single comparisons, and how they become one again."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from touchstone_statistics.contrast import Contrast
from touchstone_statistics.inference import Reading
from touchstone_statistics.interval import Interval


def one_by_one(contrast: Contrast, read: Callable[[Contrast, int], Reading]) -> Reading:
    """Read each treatment of a contrast with one axis by itself, and join the readings."""
    count = contrast.difference.size
    return joined([read(part_of(contrast, index), index) for index in range(count)])


def part_of(contrast: Contrast, index: int) -> Contrast:
    """Treatment number `index` alone, with its axis; the control may have an axis of one."""
    own = slice(index, index + 1)
    control = contrast.control if contrast.control.value.size == 1 else contrast.control[own]
    shape = contrast.difference.shape
    return replace(
        contrast,
        control=control,
        treatment=contrast.treatment[own],
        null_lift=np.broadcast_to(contrast.null_lift, shape)[own],
        covariance=np.broadcast_to(contrast.covariance, shape)[own],
        freedom=None if contrast.freedom is None else np.broadcast_to(contrast.freedom, shape)[own],
    )


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
