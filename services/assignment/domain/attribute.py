"""What a project declares to be known of its units."""

import enum
from dataclasses import dataclass

from services.assignment.domain.resource import Resource


class AttributeType(enum.StrEnum):
    """What values an attribute has."""

    STRING = "STRING"
    NUMBER = "NUMBER"
    BOOLEAN = "BOOLEAN"
    VERSION = "VERSION"
    """A semantic version as text."""
    INSTANT = "INSTANT"
    """RFC 3339 text, or seconds since 1970."""
    ADDRESS = "ADDRESS"
    """An IPv4 or IPv6 address as text."""


@dataclass(frozen=True, slots=True)
class Attribute(Resource):
    """An attribute that rules may ask for; its id is the name that a context gives it."""

    type: AttributeType
    display_name: str = ""
