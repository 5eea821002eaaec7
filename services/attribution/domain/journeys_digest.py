"""A name of journeys: the same for the same, and another where anything of them differs."""

import hashlib

import numpy as np
from numpy.typing import NDArray

from services.attribution.domain.journeys import Journeys


def journeys_digest(journeys: Journeys) -> str:
    """Return the SHA-256, in hexadecimal, of what credits are a function of.

    These are the channels, touches and times of every journey, and the conversions with their
    times and values, in the order of units. Ids are no part of it, and neither are milestones,
    which are read for some models alone.
    """
    digest = hashlib.sha256()
    digest.update(b"\0".join(name.encode() for name in journeys.channels))
    digest.update(b"\0\0%d" % journeys.converting)
    for numbers in (journeys.offsets, journeys.codes, journeys.times, journeys.conversion_times):
        digest.update(_plain(numbers, "<i8"))
    digest.update(_plain(journeys.values, "<f8"))
    return digest.hexdigest()


def _plain(numbers: NDArray[np.generic], kind: str) -> bytes:
    """The length first: it keeps apart what would read the same one after another."""
    return len(numbers).to_bytes(8, "little") + numbers.astype(kind).tobytes()
