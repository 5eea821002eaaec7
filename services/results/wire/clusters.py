"""What clusters of units do to a metric, as messages."""

import numpy as np
from touchstone.results.v1 import results_pb2 as pb
from touchstone_statistics.cluster import design_effect
from touchstone_statistics.estimand import Estimate, estimate

from services.results.domain.reading.measured import Measured, of_record
from services.results.domain.reading.switchback import WindowChecks
from services.results.wire.numbers import encode_difference, encode_number, encode_scalar


def encode_clusters(found: Measured) -> pb.ClusterSummary:
    """Of all units."""
    clusters = found.clusters
    assert clusters is not None, "the caller has looked"
    with np.errstate(all="ignore"):
        effect = design_effect(found.plain, _of_units(found))
    arms = range(clusters.seen.arms)
    return pb.ClusterSummary(
        arms=clusters.seen.counts[0],
        all=int(clusters.every[0]),
        mixed=clusters.seen.mixed[0],
        design_effects=[encode_number(effect.factor[0], effect.gap[0], arm) for arm in arms],
    )


def encode_windows(checks: WindowChecks, level: float) -> pb.SwitchbackChecks:
    """What the windows of a switchback say of one treatment."""
    contrast, reading = checks.left_over, checks.reading
    return pb.SwitchbackChecks(
        permutation_p_value=encode_scalar(checks.permutation.p_value),
        permutations=checks.permutation.repetitions,
        carry_over=pb.CarryOver(
            difference=encode_number(contrast.difference, contrast.gap, 0),
            difference_interval=encode_difference(reading.difference, reading.gap, 0, level),
            p_value=encode_number(reading.p_value, reading.gap, 0),
        ),
    )


def variance_of_units(found: Measured, arm: int) -> pb.Estimate:
    """The sample variance over units, whatever they are grouped by."""
    arms = found.arms[0] if found.clusters is None else _of_units(found)[0]
    return encode_number(arms.variance * arms.units, arms.spread_gap, arm)


def _of_units(found: Measured) -> Estimate:
    """The arms as if units counted by themselves."""
    return estimate(found.moments, of_record(found.measure))
