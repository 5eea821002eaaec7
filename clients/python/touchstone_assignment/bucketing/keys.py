"""The key rule: `<salt>:<unit>`, printable ASCII only.

A unit id is written byte by byte of its UTF-8 form: a printable ASCII byte (0x20 to 0x7E) other
than `%` stands for itself, every other byte becomes `%` and two upper-case hexadecimal digits.
Encoding `%` itself keeps the rule injective: two different ids never share a key. A salt holds no
`:`, so the first `:` of a key always ends the salt and two salts never share a key either.
"""

import re

_SALT = re.compile(r"[A-Za-z0-9._/-]{1,128}")
_SALT_RULE = "1 to 128 characters of A-Z, a-z, 0-9, '.', '_', '/' and '-'"
_WRITTEN = tuple(
    chr(byte) if 0x20 <= byte <= 0x7E and byte != ord("%") else f"%{byte:02X}"
    for byte in range(256)
)


def encode_unit(unit: str) -> str:
    """The unit id as printable ASCII.

    Raises ValueError on an empty id and on an unpaired surrogate, which has no UTF-8 form.
    """
    if unit.isascii() and unit.isprintable() and "%" not in unit:
        if not unit:
            raise ValueError("a unit id is empty; send at least one character")
        return unit
    try:
        data = unit.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(
            f"the unit id {unit!r} holds an unpaired surrogate; send valid Unicode text"
        ) from error
    return "".join([_WRITTEN[byte] for byte in data])


def require_salt(salt: str) -> str:
    """The salt itself, or ValueError when it could make two keys the same."""
    if _SALT.fullmatch(salt) is None:
        raise ValueError(f"the salt {salt!r} is not allowed; use {_SALT_RULE}")
    return salt


def bucketing_key(salt: str, unit: str) -> str:
    """The one string that is hashed for this unit under this salt."""
    return f"{require_salt(salt)}:{encode_unit(unit)}"


def unit_bytes(unit: str) -> bytes:
    """`encode_unit` as the bytes that end a key."""
    # The common case once more: every decision comes by here, and a second call would show.
    if unit.isascii() and unit.isprintable() and "%" not in unit and unit:
        return unit.encode()
    return encode_unit(unit).encode()
