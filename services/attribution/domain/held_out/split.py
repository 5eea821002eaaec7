"""Journeys to fit and journeys held out, by unit."""

import hashlib
from dataclasses import dataclass, replace

import numpy as np

from services.attribution.domain.arrays import Flags
from services.attribution.domain.journeys import Journeys
from services.attribution.domain.unit_keys import Keys, mixed
from services.attribution.domain.windows import expand
from shared.errors import invalid


@dataclass(frozen=True, slots=True)
class Split:
    """Two sets of journeys without a common unit, both over the same channels."""

    training: Journeys
    held_out: Journeys


def split_by_unit(journeys: Journeys, keys: Keys, salt: str, held_out: float = 0.2) -> Split:
    """Hold out about the part `held_out` of units; `keys` has the key of the unit of each journey.

    Which unit is held out depends on its key and on `salt` alone. Conversions that saw no touch
    take no part.
    """
    if not 0 < held_out < 1:
        raise invalid("held_out", held_out, "a part between 0 and 1")
    if len(keys) != len(journeys):
        raise invalid("held_out.keys", len(keys), f"one for each of {len(journeys)} journeys")
    digest = hashlib.blake2b(salt.encode(), digest_size=8).digest()
    salted = mixed(keys ^ np.frombuffer(digest, dtype="<u8").astype(np.uint64))
    apart = salted < np.uint64(int(held_out * 2**64))
    return Split(take(journeys, ~apart), take(journeys, apart))


def take(journeys: Journeys, chosen: Flags) -> Journeys:
    """Return the chosen journeys, in their order, without conversions that saw no touch."""
    rows = np.flatnonzero(chosen)
    touches, offsets = expand(journeys.offsets[rows], journeys.offsets[rows + 1])
    own = rows[rows < journeys.converting]
    return replace(
        journeys,
        offsets=offsets,
        codes=journeys.codes[touches],
        times=journeys.times[touches],
        touch_rows=journeys.touch_rows[touches],
        units=journeys.units[rows],
        converting=len(own),
        conversion_rows=journeys.conversion_rows[own],
        conversion_times=journeys.conversion_times[own],
        values=journeys.values[own],
        direct_rows=np.zeros(0, dtype=np.int64),
        direct_values=np.zeros(0),
    )
