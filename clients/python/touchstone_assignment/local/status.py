"""How fresh the rules are, for the product to see."""

from __future__ import annotations

import enum
import logging
from collections.abc import Callable
from dataclasses import dataclass, field

LOG = logging.getLogger("touchstone_assignment")


@dataclass(frozen=True, slots=True)
class Status:
    """What decides at this moment, and how old it is."""

    ready: bool
    """There are rules."""
    stale: bool
    """They were not confirmed for longer than `stale_after_s`, or there are none."""
    config_version: int
    """Their configuration version; 0 when there are none."""
    age_s: float | None
    """Seconds since they were last known to be the newest; None when there are none."""
    connected: bool
    """The service's stream is open, and has said something."""
    from_disk: bool
    """They are from the disk, and no service has confirmed them since the start."""
    refused: int
    """How often rules were refused: from the service or the disk, whole, for what is in them."""
    failures: int
    """How often the stream ended or could not be opened."""
    problem: str = ""
    """What went wrong last; empty when all is well."""


class Kind(enum.StrEnum):
    """What changed."""

    READY = "READY"
    """The first rules are there."""
    CHANGED = "CHANGED"
    """Other rules decide from now on."""
    STALE = "STALE"
    """The rules have become stale."""
    FRESH = "FRESH"
    """They are confirmed again."""


@dataclass(frozen=True, slots=True)
class Change:
    """Something that a product may want to know, or to count."""

    kind: Kind
    config_version: int
    experiments: tuple[str, ...] = field(default=())
    """The ids of the experiments that changed, came or went. Only of CHANGED."""


Listener = Callable[[Change], None]
"""Called from the thread that follows the rules; it must not wait for long."""


def tell(listeners: tuple[Listener, ...], change: Change) -> None:
    """Calls them all. What one raises is logged: it must not end the thread."""
    for listener in listeners:
        try:
            listener(change)
        except Exception:
            LOG.exception("a listener of changes failed")
