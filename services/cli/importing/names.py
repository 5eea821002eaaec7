"""Names that the contracts take, made from names that people wrote; and ids of events."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping

from shared.errors import invalid

_LONGEST = 63
_MAX_EVENT_ID_BYTES = 128


def variant_key(name: str) -> str:
    """`Mens E-Mail` is `mens-e-mail`."""
    slug = re.sub(r"[^a-z0-9._]+", "-", name.lower()).strip("-._")[:_LONGEST].rstrip("-._")
    return slug or "variant"


def event_name(name: str) -> str:
    """`Order Value` is `order_value`: an event name, and a metric id as well."""
    slug = re.sub(r"[^a-z0-9-]+", "_", name.lower()).strip("_-")
    if not slug[:1].isalpha():
        slug = f"m_{slug}"
    return slug[:_LONGEST].rstrip("_-")


def dataset_name(stem: str) -> str:
    """A dataset's name from the stem of its file."""
    return variant_key(stem)[:40]


def distinct_keys(names: Iterable[str]) -> Mapping[str, str]:
    """The key of each name. Raises INVALID_ARGUMENT when two names have the same."""
    keys: dict[str, str] = {}
    for name in names:
        key = variant_key(name)
        for other, taken in keys.items():
            if taken == key:
                raise invalid(
                    "--variant", name, f"names that differ in letters or digits; {other!r} is there"
                )
        keys[name] = key
    return keys


def metric_id(experiment: str, column: str) -> str:
    """The id of the metric that a column is in an experiment: no other experiment's."""
    return _scoped(experiment, "-", event_name(column))


def event_name_in(experiment: str, column: str) -> str:
    """The name of a column's conversion events: no other experiment's metric reads them."""
    return _scoped(experiment, ".", event_name(column))


def require_experiment_id(experiment: str, option: str = "--experiment") -> None:
    """Raises INVALID_ARGUMENT, in words, when the contract does not take the id."""
    if not re.fullmatch(r"[a-z][a-z0-9-]{0,62}", experiment):
        raise invalid(
            option,
            experiment,
            "up to 63 lower-case letters, digits and hyphens, the first a letter, such as "
            f"{_suggested(experiment)}",
        )


def require_metric_id(metric: str) -> None:
    """Raises INVALID_ARGUMENT, in words, when the contract does not take the id."""
    if not re.fullmatch(r"[a-z][a-z0-9_-]{0,62}", metric):
        raise invalid(
            "METRIC",
            metric,
            "up to 63 lower-case letters, digits, hyphens and underscores, the first a letter, "
            f"such as {event_name(metric)}",
        )


def require_unit_type(unit_type: str) -> None:
    """Raises INVALID_ARGUMENT, in words, when the contract does not take the type."""
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,31}", unit_type):
        raise invalid(
            "--unit-type",
            unit_type,
            "up to 32 lower-case letters, digits and underscores, the first a letter, such as "
            "user or customer_account",
        )


def require_event_name(name: str) -> None:
    """Raises INVALID_ARGUMENT, in words, when the contract does not take the event name."""
    if not re.fullmatch(r"[a-z][a-z0-9_.-]{0,62}", name):
        raise invalid(
            "--event-name",
            name,
            "up to 63 lower-case letters, digits, dots, hyphens and underscores, the first a "
            f"letter, such as {event_name(name)}",
        )


def require_dataset(dataset: str) -> None:
    """Raises INVALID_ARGUMENT when the name could not be part of event ids and file names."""
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,39}", dataset):
        raise invalid(
            "--dataset",
            dataset,
            "up to 40 letters, digits, dots, hyphens and underscores, the first no dot or hyphen",
        )


def require_currency(currency: str) -> None:
    """Raises INVALID_ARGUMENT when it is no code of a currency."""
    if not re.fullmatch(r"([A-Z]{3})?", currency):
        raise invalid("--currency", currency, "three capital letters by ISO 4217, such as EUR")


def event_id(dataset: str, row: int, role: str) -> str:
    """The id of the event that one row has in one role: the same at each import."""
    whole = f"{dataset}:{row}:{role}"
    if len(whole.encode()) <= _MAX_EVENT_ID_BYTES:
        return whole
    return f"{dataset}:{row}:{hashlib.blake2b(role.encode(), digest_size=16).hexdigest()}"


def _scoped(experiment: str, separator: str, name: str) -> str:
    # Without a hyphen in the last part, no other experiment and column make the same name.
    whole = f"{experiment}{separator}{name.replace('-', '_')}"
    if len(whole) <= _LONGEST:
        return whole
    digest = hashlib.blake2b(whole.encode(), digest_size=4).hexdigest()
    return f"{whole[: _LONGEST - 9].rstrip('-_.')}-{digest}"


def _suggested(experiment: str) -> str:
    slug = re.sub(r"[^a-z0-9]+", "-", experiment.lower()).strip("-")
    if not slug[:1].isalpha():
        slug = f"e-{slug}"
    return slug[:_LONGEST].strip("-")
