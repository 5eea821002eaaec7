"""What clusters of units do to a metric, as messages."""

import numpy as np
from touchstone.results.v1 import results_pb2 as pb
from touchstone_statistics.cluster import design_effect
from touchstone_statistics.estimand import Estimate, estimate

from services.results.domain.reading.measured import Measured, of_record
from services.results.wire.numbers import encode_number


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


def variance_of_units(found: Measured, arm: int) -> pb.Estimate:
    """The sample variance over units, whatever they are grouped by."""
    arms = found.arms[0] if found.clusters is None else _of_units(found)[0]
    return encode_number(arms.variance * arms.units, arms.spread_gap, arm)


def _of_units(found: Measured) -> Estimate:
    """The arms as if units counted by themselves."""
    return estimate(found.moments, of_record(found.measure))
