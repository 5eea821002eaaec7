"""From a hash to one of W buckets: `(hash * W) >> 32`, so every bucket is a range of hashes."""

from collections.abc import Callable

from mmh3 import mmh3_32_uintdigest as murmur3_x86_32

from touchstone_assignment.bucketing.hashes import HashVersion, cbor_text_head
from touchstone_assignment.bucketing.keys import require_salt

MAX_BUCKETS = 2**31 - 1
_PREPARED_UNIT_BYTES = 128
"""Longer units are hashed as well, only more slowly."""

Bucketer = Callable[[bytes], int]
"""From the bytes of an encoded unit (`unit_bytes`) to its bucket in [0, W)."""


def bucket_of(hash_value: int, buckets: int) -> int:
    """The bucket in [0, buckets) of an unsigned 32-bit hash."""
    return (hash_value * buckets) >> 32


def bucketer(version: HashVersion, salt: str, buckets: int) -> Bucketer:
    """A closure with everything but the unit decided; it takes what `unit_bytes` gives.

    Raises ValueError when the salt or the number of buckets is outside its range.
    """
    if not 1 <= buckets <= MAX_BUCKETS:
        raise ValueError(f"{buckets} buckets asked for; allowed are 1 to {MAX_BUCKETS}")
    prefix = f"{require_salt(salt)}:".encode("ascii")
    if version is HashVersion.FLAGD_V3:
        return _cbor_bucketer(prefix, buckets)
    return lambda unit: (murmur3_x86_32(prefix + unit) * buckets) >> 32


def _cbor_bucketer(prefix: bytes, buckets: int) -> Bucketer:
    # What stands before the unit depends on its length alone.
    starts = tuple(
        cbor_text_head(len(prefix) + size) + prefix for size in range(_PREPARED_UNIT_BYTES + 1)
    )

    def bucket(unit: bytes) -> int:
        size = len(unit)
        if size > _PREPARED_UNIT_BYTES:
            start = cbor_text_head(len(prefix) + size) + prefix
        else:
            start = starts[size]
        return (murmur3_x86_32(start + unit) * buckets) >> 32

    return bucket
