"""Deterministic bucketing: a salted unit becomes a bucket, the same everywhere and for ever."""

from touchstone_assignment.bucketing.bucketer import Bucketer, bucket_of, bucketer
from touchstone_assignment.bucketing.hashes import HashVersion, hash_key
from touchstone_assignment.bucketing.keys import (
    bucketing_key,
    encode_unit,
    require_salt,
    unit_bytes,
)

__all__ = [
    "Bucketer",
    "HashVersion",
    "bucket_of",
    "bucketer",
    "bucketing_key",
    "encode_unit",
    "hash_key",
    "require_salt",
    "unit_bytes",
]
