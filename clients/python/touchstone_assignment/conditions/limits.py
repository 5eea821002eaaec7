"""How large a condition may be, so that one decision stays cheap whoever wrote the rule."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class ConditionLimits:
    """The bounds of one condition."""

    levels: int = 20
    """Conditions inside conditions, those of the audiences that it asks for included."""
    nodes: int = 1_000
    """Conditions that stand in it, itself included."""
    expanded_nodes: int = 10_000
    """The same with every audience counted wherever it is asked for."""
    values: int = 1_000
    """Values of one comparison."""
    text_bytes: int = 1_024
    """One text among the values, in UTF-8."""
    pattern_bytes: int = 512
    """A regular expression, in UTF-8."""
    pattern_instructions: int = 2_000
    """Steps of a compiled regular expression: with the next one it bounds the time of a search."""
    pattern_text_bytes: int = 4_096
    """Longer text never matches a regular expression, in UTF-8."""
    pattern_memory_bytes: int = 1_048_576
    """What a regular expression may use at most."""
    version_characters: int = 256
    """Longer text is no version."""


LIMITS: Final = ConditionLimits()
