"""One change of a project's configuration."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Revision:
    """The configuration version that a change makes, and when; time is aware and in UTC."""

    config_version: int
    time: datetime
