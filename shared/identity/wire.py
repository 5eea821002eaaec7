"""Stitching as the contracts say it."""

from touchstone.common.v1 import identity_pb2

from shared.identity.belonging import Stitching

STITCHING_OF = {
    Stitching.RETROACTIVE: identity_pb2.STITCHING_RETROACTIVE,
    Stitching.POINT_IN_TIME: identity_pb2.STITCHING_POINT_IN_TIME,
}
_READ = {int(number): stitching for stitching, number in STITCHING_OF.items()}


def stitching_of(number: int) -> Stitching:
    """The stitching that a request asks for, RETROACTIVE where it asks for none."""
    return _READ.get(number, Stitching.RETROACTIVE)
