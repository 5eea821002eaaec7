"""The hash versions. A version never changes; a better hash is a new version."""

import enum
from collections.abc import Callable

from mmh3 import mmh3_32_uintdigest as murmur3_x86_32


class HashVersion(enum.StrEnum):
    """Which bytes of a key go into MurmurHash3_x86_32 with seed 0."""

    FLAGD_V2 = "flagd-v2"
    """The UTF-8 bytes of the key: flagd `fractional` of most released engines."""
    FLAGD_V3 = "flagd-v3"
    """The key as a deterministic CBOR text string (RFC 8949): flagd-core 2.0 of Python."""


def utf8_bytes(key: str) -> bytes:
    """The bytes that flagd-v2 hashes."""
    return key.encode("utf-8")


def cbor_text(key: str) -> bytes:
    """The bytes that flagd-v3 hashes."""
    data = key.encode("utf-8")
    return cbor_text_head(len(data)) + data


def cbor_text_head(size: int) -> bytes:
    """The head of a text string of `size` bytes: RFC 8949 section 3.1, major type 3, shortest."""
    if size < 24:
        return bytes((0x60 + size,))
    if size < 0x100:
        return bytes((0x78, size))
    if size < 0x10000:
        return b"\x79" + size.to_bytes(2, "big")
    return b"\x7a" + size.to_bytes(4, "big")


_BYTES: dict[HashVersion, Callable[[str], bytes]] = {
    HashVersion.FLAGD_V2: utf8_bytes,
    HashVersion.FLAGD_V3: cbor_text,
}


def hash_key(version: HashVersion, key: str) -> int:
    """The unsigned 32-bit hash of a key."""
    return murmur3_x86_32(_BYTES[version](key))
