"""Identifiers and secrets as a port: randomness stands in one place."""

from __future__ import annotations

import secrets
from typing import Protocol

# Crockford's base 32 in lower case: no letter that reads as another one.
_ALPHABET = b"0123456789abcdefghjkmnpqrstvwxyz"
# Each of them stands for as many of the 256 bytes.
_WRITTEN = _ALPHABET * (256 // len(_ALPHABET))


class IdGenerator(Protocol):
    """Makes identifiers that were never made before."""

    def new(self, characters: int = 16) -> str:
        """Letters and digits, 5 random bits each."""
        ...


class RandomIds:
    """Identifiers from the operating system's source of randomness."""

    def new(self, characters: int = 16) -> str:
        """Letters and digits, 5 random bits each."""
        return secrets.token_bytes(characters).translate(_WRITTEN).decode()
