"""What a cut has lost, as a message."""

from touchstone.results.v1 import results_pb2 as pb

from services.results.domain.removed import Removed


def encode_removed(removed: Removed | None) -> pb.RemovedSince | None:
    """None for nothing."""
    if removed is None:
        return None
    return pb.RemovedSince(
        exposures=removed.exposures, conversions=removed.conversions, unknown=removed.unknown
    )
