"""What values a project declares an attribute to have."""

import enum


class AttributeType(enum.StrEnum):
    """The names of the contract's enum without its prefix."""

    STRING = "STRING"
    NUMBER = "NUMBER"
    BOOLEAN = "BOOLEAN"
    VERSION = "VERSION"
    INSTANT = "INSTANT"
    ADDRESS = "ADDRESS"
