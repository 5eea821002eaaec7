"""Identifiers and secrets as a port: randomness stands in one place."""

from __future__ import annotations

import secrets
from typing import Protocol

# Crockford's base 32 in lower case: no letter that reads as another one.
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"


class IdGenerator(Protocol):
    """Makes identifiers that were never made before."""

    def new(self, characters: int = 16) -> str:
        """Letters and digits, 5 random bits each."""
        ...


class RandomIds:
    """Identifiers from the operating system's source of randomness."""

    def new(self, characters: int = 16) -> str:
        """Letters and digits, 5 random bits each."""
        return "".join(secrets.choice(_ALPHABET) for _ in range(characters))
