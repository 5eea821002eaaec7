"""From a hash to one of W buckets: `(hash * W) >> 32`, so every bucket is a range of hashes."""

from collections.abc import Callable

from mmh3 import mmh3_32_uintdigest as murmur3_x86_32

from shared.bucketing.hashes import HashVersion, cbor_text
from shared.bucketing.keys import require_salt

MAX_BUCKETS = 2**31 - 1

Bucketer = Callable[[str], int]
"""From an already encoded unit (`encode_unit`) to its bucket in [0, W)."""


def bucket_of(hash_value: int, buckets: int) -> int:
    """The bucket in [0, buckets) of an unsigned 32-bit hash."""
    return (hash_value * buckets) >> 32


def bucketer(version: HashVersion, salt: str, buckets: int) -> Bucketer:
    """A closure with everything but the unit decided; it takes the unit after `encode_unit`.

    Raises ValueError when the salt or the number of buckets is outside its range.
    """
    if not 1 <= buckets <= MAX_BUCKETS:
        raise ValueError(f"{buckets} buckets asked for; allowed are 1 to {MAX_BUCKETS}")
    prefix = require_salt(salt) + ":"
    if version is HashVersion.FLAGD_V3:
        return lambda unit: (murmur3_x86_32(cbor_text(prefix + unit)) * buckets) >> 32
    prefix_bytes = prefix.encode("ascii")
    return lambda unit: (murmur3_x86_32(prefix_bytes + unit.encode("ascii")) * buckets) >> 32
