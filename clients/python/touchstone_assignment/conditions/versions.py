"""Semantic versions 2.0.0: read strictly, compared by precedence."""

import re
from functools import lru_cache

from touchstone_assignment.conditions.limits import LIMITS

Version = tuple[int, int, int, int, tuple[tuple[int, int, str], ...]]
"""Major, minor, patch, 1 for a release and 0 for a pre-release, and its identifiers.

Tuples compare as section 11 of the specification says. Build metadata has no part in it.
"""

ALLOWED = "a semantic version such as '2.10.0' or '3.0.0-rc.1' (https://semver.org)"

_NUMBER = "(0|[1-9][0-9]*)"
_IDENTIFIER = "(?:0|[1-9][0-9]*|[0-9]*[A-Za-z-][0-9A-Za-z-]*)"
_VERSION = re.compile(
    rf"{_NUMBER}\.{_NUMBER}\.{_NUMBER}"
    rf"(?:-({_IDENTIFIER}(?:\.{_IDENTIFIER})*))?"
    r"(?:\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?"
)


def read_version(text: object) -> Version | None:
    """The version, or None when this is none. A leading 'v' is not part of the standard."""
    return _read(text) if isinstance(text, str) else None


# The same few versions come with every request.
@lru_cache(maxsize=1024)
def _read(text: str) -> Version | None:
    if len(text) > LIMITS.version_characters:
        return None
    found = _VERSION.fullmatch(text)
    if found is None:
        return None
    major, minor, patch, pre_release = found.groups()
    if pre_release is None:
        return int(major), int(minor), int(patch), 1, ()
    identifiers = tuple(_identifier(part) for part in pre_release.split("."))
    return int(major), int(minor), int(patch), 0, identifiers


def _identifier(text: str) -> tuple[int, int, str]:
    # Numbers stand below words and compare as numbers.
    return (0, int(text), "") if text.isdigit() else (1, 0, text)
