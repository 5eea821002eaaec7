"""The patterns of the contracts, in words."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple


class Words(NamedTuple):
    """What a pattern allows, and a text that keeps it."""

    meaning: str
    example: str


_LOWER = "a lower case letter, then at most {} of a to z, 0 to 9{}"
_KEY = "a lower case letter or digit, then at most 62 of a to z, 0 to 9, ., _ and -"
_ID = _LOWER.format(62, " and -")
_TYPE = _LOWER.format(31, " and _")
_ATTRIBUTE = "a letter or _, then at most 63 of A to Z, a to z, 0 to 9, _, . and -"
_EMPTY = ", or empty"

IN_WORDS: Mapping[str, Words] = MappingProxyType(
    {
        r"^[A-Z]{3}$": Words("three capital letters", "EUR"),
        r"^([A-Z]{3})?$": Words("three capital letters" + _EMPTY, "EUR"),
        r"^[^\x00-\x1f\x7f]+$": Words("one character or more, and no control characters", "4711"),
        r"^[^\x00-\x1f\x7f]*$": Words("no control characters" + _EMPTY, "autumn"),
        r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$": Words("a day", "2026-01-31"),
        r"^([0-9]{4}-[0-9]{2}-[0-9]{2})?$": Words("a day" + _EMPTY, "2026-01-31"),
        r"^[a-z][a-z0-9_]{0,31}$": Words(_TYPE, "customer"),
        r"^([a-z][a-z0-9_]{0,31})?$": Words(_TYPE + _EMPTY, "customer"),
        r"^[a-z][a-z0-9_.-]{0,62}$": Words(_LOWER.format(62, ", _, . and -"), "order.paid"),
        r"^([a-z][a-z0-9_.-]{0,62})?$": Words(
            _LOWER.format(62, ", _, . and -") + _EMPTY, "order.paid"
        ),
        r"^(value|currency|source|channel|campaign_source|medium|campaign|content|term|interaction"
        r"|cost|properties\.[^\x00-\x1f\x7f]{1,128})$": Words(
            "the name of a column that a filter may read, or properties. and the key of a property",
            "properties.plan",
        ),
        r"^(properties\.[A-Za-z_][A-Za-z0-9_.-]{0,63}|source|evaluator)$": Words(
            f"source, evaluator or properties. and {_ATTRIBUTE}", "properties.platform"
        ),
        r"^((properties\.[A-Za-z_][A-Za-z0-9_.-]{0,63}|source|evaluator))?$": Words(
            f"source, evaluator or properties. and {_ATTRIBUTE}" + _EMPTY, "properties.shop"
        ),
        r"^[a-z][a-z0-9_-]{0,62}$": Words(_LOWER.format(62, ", _ and -"), "order-value"),
        r"^([a-z][a-z0-9_-]{0,62})?$": Words(
            _LOWER.format(62, ", _ and -") + _EMPTY, "autumn-report"
        ),
        r"^[a-z][a-z0-9-]{0,62}$": Words(_ID, "checkout-button"),
        r"^([a-z0-9][a-z0-9-]{0,62})?$": Words(
            "a lower case letter or digit, then at most 62 of a to z, 0 to 9 and -" + _EMPTY,
            "2026-01-31",
        ),
        r"^[a-z0-9][a-z0-9._-]{0,62}$": Words(_KEY, "treatment"),
        r"^([a-z0-9][a-z0-9._-]{0,62})?$": Words(_KEY + _EMPTY, "control"),
        r"^[a-z][a-z0-9_]{0,62}$": Words(_LOWER.format(62, " and _"), "button_colour"),
        r"^[A-Za-z_][A-Za-z0-9_.-]{0,63}$": Words(_ATTRIBUTE, "country"),
        r"^([A-Za-z_][A-Za-z0-9_.-]{0,63})?$": Words(_ATTRIBUTE + _EMPTY, "country"),
        r"^[A-Za-z0-9_-]{1,64}$": Words("1 to 64 of A to Z, a to z, 0 to 9, _ and -", "list-7"),
        r"^[0-9a-f]{64}$": Words("64 of 0 to 9 and a to f", "0" * 64),
        r"^projects/[a-z][a-z0-9-]{0,62}/metrics/[a-z][a-z0-9_-]{0,62}$": Words(
            "the resource name of a metric", "projects/acme/metrics/order-value"
        ),
    }
)
"""By pattern; each pattern of the contracts is here."""


def allowed(pattern: str) -> str:
    """What a pattern allows, with an example and the pattern itself."""
    words = IN_WORDS.get(pattern)
    if words is None:
        return f"what matches {pattern}"
    return f"{words.meaning}, such as {words.example} ({pattern})"
